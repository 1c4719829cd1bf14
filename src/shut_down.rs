//! How a client ends: no new calls, those under way to their end, and every session stored.

use std::fmt;
use std::time::Duration;

use tokio::time::timeout;

use crate::client::Client;
use crate::under_way::UnderWay;

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
    /// From now on every new call of its agents fails with [`ErrorKind::ShutDown`](crate::ErrorKind::ShutDown), and nothing is sent for it. Calls under way
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
