//! What a client has under way, and that ends before a shutdown does.

use tokio::sync::Notify;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::error::{Error, ErrorKind};

/// What a client has under way.
#[derive(Default)]
pub(crate) struct UnderWay {
    /// Closed by a shutdown: none may begin any more.
    pub(crate) calls: TaskTracker,
    /// They outlive the calls that began them.
    pub(crate) logins: TaskTracker,
    /// Sessions that the users' callbacks are to store.
    pub(crate) stores: TaskTracker,
    /// Those of them that could not be stored so far.
    pub(crate) unstored: TaskTracker,
    /// A shutdown began: what waits to be tried again is tried now.
    pub(crate) closing: Notify,
}

impl UnderWay {
    /// A call begins; it ends with what this gives.
    pub(crate) fn begin(&self) -> Result<TaskTrackerToken, Error> {
        // Counted first: whoever finds the client open is waited for.
        let token = self.calls.token();
        match self.is_closing() {
            false => Ok(token),
            true => Err(Error::new(ErrorKind::ShutDown, "this client was told to shut down; nothing was sent")),
        }
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.calls.is_closed()
    }
}
