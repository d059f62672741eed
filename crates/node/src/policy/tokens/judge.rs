//! What becomes of a token, for operators who ask. It is judged by the code that judges clients, and counts nowhere.

use std::time::Duration;

use signalbox_auth::{Identity, Now, Outcome, Refusal};
use tokio::time::timeout;

use super::{Ordering, State, TokenPolicy};

impl TokenPolicy {
    /// Who shows this token, or none. Keys that are being fetched are waited for, for this long.
    ///
    /// # Errors
    /// Why the token is no good, or that there is none.
    pub async fn judge(&self, token: Option<&str>, wait: Duration) -> Result<Identity, Refusal> {
        let judged = timeout(wait, async {
            loop {
                let fetched = self.0.keys.notified();
                match self.0.judge(token) {
                    Outcome::Accepted(identity) => return Ok(identity),
                    Outcome::Refused(refusal) => return Err(refusal),
                    Outcome::AwaitKeys(_) => fetched.await,
                }
            }
        });
        judged.await.unwrap_or(Err(Refusal::KeysUnavailable))
    }

    /// Whether the cluster has issued this id for the realm with this key, and it counts still.
    pub fn is_generated_id(&self, key: &str, id: &str) -> bool {
        self.0.ids().is_some_and(|ids| ids.verify(key, id, Now::read().unix).is_ok())
    }
}

impl State {
    fn judge(&self, token: Option<&str>) -> Outcome {
        let revocations = self.revocations.read().clone();
        match self.authenticator().authenticate(token, &revocations, Now::read()) {
            Outcome::Accepted(Identity::Known(_))
                if self.needs_revocations && !self.knows_revocations.load(Ordering::Acquire) =>
            {
                Outcome::Refused(Refusal::RevocationsUnknown)
            }
            outcome => outcome,
        }
    }
}
