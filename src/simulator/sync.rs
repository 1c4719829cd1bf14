//! What all of the simulator waits and locks with.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// No state here is left half-changed by a panic, so a poisoned lock is as good as any.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits, unless there is nothing to wait for: even an empty sleep would cost a turn of the timer.
pub(super) async fn pause(latency: Duration) {
    if !latency.is_zero() {
        tokio::time::sleep(latency).await;
    }
}
