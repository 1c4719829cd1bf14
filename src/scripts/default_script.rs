//! The scripts every organisation has.

use std::fmt;

use crate::id::ScriptId;

/// A script that every organisation has, with the same id in each. The service lists them among the
/// published scripts only.
///
/// ```
/// use genesys_scripts::DefaultScript;
///
/// let id = DefaultScript::Inbound.id();
/// assert_eq!(id.as_str(), "766f1221-047a-11e5-bba2-db8c0964d007");
/// assert_eq!(DefaultScript::of(&id), Some(DefaultScript::Inbound));
/// assert_eq!(DefaultScript::Inbound.to_string(), "Default Inbound Script");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DefaultScript {
    /// For calls that come in.
    Inbound,
    /// For calls that go out.
    Outbound,
    /// For callbacks.
    Callback,
}

impl DefaultScript {
    /// All of them.
    pub const ALL: &'static [Self] = &[Self::Inbound, Self::Outbound, Self::Callback];

    /// Its id, as text.
    #[must_use]
    pub const fn id_str(self) -> &'static str {
        match self {
            Self::Inbound => "766f1221-047a-11e5-bba2-db8c0964d007",
            Self::Outbound => "476c2b71-7429-11e4-9a5b-3f91746bffa3",
            Self::Callback => "ffde0662-8395-9b04-7dcb-b90172109065",
        }
    }

    /// Its id.
    #[must_use]
    pub fn id(self) -> ScriptId {
        ScriptId::known(self.id_str())
    }

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Inbound => "Default Inbound Script",
            Self::Outbound => "Default Outbound Script",
            Self::Callback => "Default Callback Script",
        }
    }

    /// The one this id names, if it names one.
    #[must_use]
    pub fn of(id: &ScriptId) -> Option<Self> {
        Self::ALL.iter().copied().find(|script| id.as_str().eq_ignore_ascii_case(script.id_str()))
    }
}

impl fmt::Display for DefaultScript {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn their_ids_are_ids() {
        for script in DefaultScript::ALL {
            assert_eq!(script.id_str().parse(), Ok(script.id()));
        }
    }
}
