//! What a call cost, beside what it brought.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::answer::Answer;
use crate::error::Error;
use crate::text::redact;

/// What is known of the last request of an agent's view, whether it succeeded or failed; see
/// [`Agent::with_meta`](crate::Agent::with_meta). Clones are the same one.
#[derive(Clone, Debug, Default)]
pub struct CallMeta(Arc<Mutex<Meta>>);

#[derive(Clone, Debug, Default)]
struct Meta {
    correlation_id: Option<Box<str>>,
    status: Option<u16>,
    attempts: u32,
    elapsed: Duration,
}

impl CallMeta {
    /// `ININ-Correlation-Id` of the last answer, as it came (credentials redacted): what Genesys support asks for.
    #[must_use]
    pub fn correlation_id(&self) -> Option<String> {
        self.read(|meta| meta.correlation_id.as_deref().map(str::to_owned))
    }

    /// The HTTP status of the last answer; none where none came.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        self.read(|meta| meta.status)
    }

    /// How many times the request was sent, or tried to be. Logins are not counted. 0 before the first call.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.read(|meta| meta.attempts)
    }

    /// From the call's start to its end, waits included.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.read(|meta| meta.elapsed)
    }

    pub(crate) fn note(&self, result: &Result<Box<Answer>, Error>) {
        let meta = match result {
            Ok(answer) => Meta {
                correlation_id: answer.correlation_id().map(|id| redact(id, answer.token().as_slice()).into()),
                status: Some(answer.status.as_u16()),
                attempts: answer.attempts,
                elapsed: answer.elapsed,
            },
            Err(error) => Meta {
                correlation_id: error.correlation_id().map(Into::into),
                status: error.status(),
                attempts: error.attempts(),
                elapsed: error.elapsed(),
            },
        };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = meta;
    }

    fn read<T>(&self, read: impl FnOnce(&Meta) -> T) -> T {
        read(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
