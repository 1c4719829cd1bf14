//! How a client ends: no new calls, those under way to their end, and every session stored.

use std::fmt;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::client::Client;
use crate::error::{Error, ErrorKind};

/// What a client has under way.
#[derive(Default)]
pub(crate) struct UnderWay {
    /// Closed by a shutdown: none may begin any more.
    calls: TaskTracker,
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

/// What was left when a client was shut down; see [`Client::shut_down`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use]
#[non_exhaustive]
pub struct ShutDown {
    /// Calls still under way at the deadline.
    pub calls: usize,
    /// Logins and refreshes still under way at the deadline. A refresh token that was sent by one may be spent.
    pub logins: usize,
    /// Sessions not stored at the deadline: their agents must log in again.
    pub sessions: usize,
}

impl ShutDown {
    /// Whether nothing was left.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        *self == Self::default()
    }
}

impl fmt::Display for ShutDown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { calls, logins, sessions } = self;
        match self.is_complete() {
            true => f.write_str("all calls and logins have ended, and all sessions are stored"),
            false => write!(
                f,
                "at the deadline were left: calls under way {calls}, logins under way {logins}, sessions not stored {sessions}"
            ),
        }
    }
}

impl Client {
    /// Ends what this client has under way, and lets nothing new begin: for when the process is told to stop.
    ///
    /// From now on every new call of its agents fails with [`ErrorKind::ShutDown`], and nothing is sent for it. Calls under way
    /// go on to their end, as do their logins, and the logins and refreshes that nobody waits for any more; each session that
    /// they bring is stored ([`Agent::on_session`](crate::Agent::on_session)), and one that could not be stored yet is tried again
    /// at once, and each second. All that has as long as it needs, up to the deadline; then this returns and says what was left.
    /// What is left is not stopped.
    ///
    /// Without it a process that ends while a token is refreshed can lose the only good refresh token: its agent would have to
    /// log in again.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), genesys_scripts::Error> {
    /// use genesys_scripts::{Client, Region};
    /// use std::time::Duration;
    ///
    /// let client = Client::builder(Region::EU_CENTRAL_1).build()?;
    /// // … SIGTERM
    /// let left = client.shut_down(Duration::from_secs(25)).await;
    /// assert!(left.is_complete(), "{left}");
    /// # Ok(())
    /// # }
    /// ```
    pub async fn shut_down(&self, deadline: Duration) -> ShutDown {
        let UnderWay { calls, logins, stores, closing, .. } = &self.shared.under_way;
        calls.close();
        closing.notify_waiters();
        let to_the_end = async {
            // One after another: a call begins logins, and a login stores.
            for tracker in [calls, logins, stores] {
                tracker.close();
                tracker.wait().await;
            }
        };
        let _ = timeout(deadline, to_the_end).await;
        ShutDown { calls: calls.len(), logins: logins.len(), sessions: stores.len() }
    }
}
