//! How lists and tokens can be odd and still be right.

/// An oddity of every list, as listing services have them. Several can hold at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ListQuirk {
    /// No page has more scripts than this, at least one, although `pageSize`, `pageCount` and `nextUri` are told by the size
    /// that was asked for.
    ClippedTo(u32),
    /// This page is empty, as where all on it was filtered out, and the scripts come on the pages around it.
    EmptyPage(u32),
    /// Neither `total` nor `pageCount`, nor any URI of another page.
    NoHints,
    /// Every page beyond this one is this one again.
    RepeatedPage(u32),
    /// The last page names the first as its next.
    Circle,
    /// Each page with scripts has a `null` among them, which `total` does not count.
    NullItem,
}

/// What is odd about the answer to a login that is granted all the same: what gateways, proxies and other versions of a
/// service have made of one. The tokens are good, and a refresh token is rotated as ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OddToken {
    /// `expires_in` is a text.
    LifetimeAsText,
    /// `expires_in` is a fraction.
    LifetimeAsFraction,
    /// `expires_in` is below zero.
    LifetimeNegative,
    /// There is no `expires_in`.
    NoLifetime,
    /// There is no `token_type`.
    NoType,
    /// `scope` is an array.
    ScopeAsArray,
    /// The body begins with a byte order mark.
    ByteOrderMark,
    /// The body is followed by text.
    Trailing,
    /// `Content-Encoding` is `br`, and the body is plain.
    FalseCoding,
    /// `access_token` is blank.
    BlankToken,
    /// There is no `access_token`.
    NoToken,
}

impl OddToken {
    /// Each of them, to try them all.
    pub const ALL: &'static [Self] = &[
        Self::LifetimeAsText,
        Self::LifetimeAsFraction,
        Self::LifetimeNegative,
        Self::NoLifetime,
        Self::NoType,
        Self::ScopeAsArray,
        Self::ByteOrderMark,
        Self::Trailing,
        Self::FalseCoding,
        Self::BlankToken,
        Self::NoToken,
    ];
}
