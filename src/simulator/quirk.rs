//! How lists can be odd and still be right.

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
