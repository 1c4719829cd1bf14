//! The imports of a client side by side: which script is whose.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::id::ScriptId;
use crate::retry::after;

/// By then a script that was imported is listed, where two imports of one name must be told apart.
pub(super) const LISTED_WITHIN: Duration = Duration::from_secs(40);

/// The imports of a client whose scripts may not be listed yet, so that none takes another's.
#[derive(Default)]
pub(crate) struct Imports(Mutex<Vec<Import>>);

struct Import {
    number: u64,
    name: String,
    script: Option<ScriptId>,
    began: Instant,
    /// When it may be forgotten by those that begin then; not while it is under way.
    until: Option<Instant>,
}

impl Imports {
    pub(super) fn begin<'a>(&'a self, name: &'a str) -> Claim<'a> {
        let mut imports = self.lock();
        let now = Instant::now();
        let under_way = imports.iter().filter(|import| import.until.is_none()).map(|import| import.began);
        let oldest = under_way.min().unwrap_or(now);
        imports.retain(|import| import.until.is_none_or(|until| until > oldest));
        // Never one that was forgotten: its claim is still to be dropped.
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        imports.push(Import { number, name: name.to_owned(), script: None, began: now, until: None });
        Claim { imports: self, number, name }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Import>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One import's place among them.
pub(super) struct Claim<'a> {
    imports: &'a Imports,
    number: u64,
    name: &'a str,
}

impl Claim<'_> {
    /// Among those of the name.
    fn among_others(&self, is: impl Fn(&Import) -> bool) -> bool {
        self.imports.lock().iter().any(|other| other.number != self.number && other.name == self.name && is(other))
    }

    /// Whether there is another import of the name whose script is not known, and may not be listed yet.
    pub(super) fn has_rivals(&self) -> bool {
        let now = Instant::now();
        self.among_others(|other| other.script.is_none() && other.until.is_none_or(|until| until > now))
    }

    /// By one that was under way with it, however long ago.
    pub(super) fn is_taken(&self, id: &ScriptId) -> bool {
        self.among_others(|other| other.script.as_ref() == Some(id))
    }

    /// Takes the script for this import's; false where another has taken it meanwhile.
    pub(super) fn take(&self, id: &ScriptId) -> bool {
        let mut imports = self.imports.lock();
        if imports.iter().any(|other| other.number != self.number && other.script.as_ref() == Some(id)) {
            return false;
        }
        if let Some(own) = imports.iter_mut().find(|import| import.number == self.number) {
            own.script = Some(id.clone());
        }
        true
    }

    /// Nothing was uploaded.
    pub(super) fn forget(&self) {
        self.imports.lock().retain(|import| import.number != self.number);
    }
}

impl Drop for Claim<'_> {
    /// Its script may be listed yet.
    fn drop(&mut self) {
        if let Some(own) = self.imports.lock().iter_mut().find(|import| import.number == self.number) {
            own.until = Some(after(Instant::now(), LISTED_WITHIN));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_claim_that_was_forgotten_and_is_dropped_touches_no_other() {
        let imports = Imports::default();
        let forgotten = imports.begin("Inbound");
        forgotten.forget();
        let (under_way, other) = (imports.begin("Inbound"), imports.begin("Inbound"));
        drop(forgotten);
        tokio::time::advance(LISTED_WITHIN * 2).await;
        assert!(other.has_rivals(), "it is under way");
        drop(under_way);
    }
}
