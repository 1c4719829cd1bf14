//! What an answer's body is wrapped in: gzip, which is undone, and a byte order mark, which is passed over.
//!
//! The bytes say what is gzip, as `GZIP`, `x-gzip` and lists of codings all do, and as some proxies name a coding that
//! they have undone. reqwest leaves a coding in any other spelling as it is, and has nothing left of a body that is not in
//! the coding it was said to be in.

use std::io::{self, Read as _};

use bytes::Bytes;
use flate2::bufread::GzDecoder;
use http::HeaderMap;
use http::header::CONTENT_ENCODING;

const GZIP: [u8; 2] = [0x1f, 0x8b];
const BYTE_ORDER_MARK: [u8; 3] = [0xef, 0xbb, 0xbf];
/// Gzip in gzip, once more than anybody means it.
const MOST_LAYERS: u32 = 3;

/// Why a body could not be had as it was meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// It ends before its coding does.
    BrokenOff,
    /// It is not in its coding.
    Garbled,
    /// It is larger than allowed.
    TooLarge,
}

/// The body itself, no larger than allowed; and what kept it from being whole, with as much of it as there is.
pub(crate) fn plain(mut body: Bytes, headers: &HeaderMap, most: usize) -> (Bytes, Option<Trouble>) {
    let is_gzip = body.starts_with(&GZIP);
    let mut trouble = None;
    for _ in 0..MOST_LAYERS {
        if trouble.is_some() || !body.starts_with(&GZIP) {
            break;
        }
        let (inside, met) = inflate(&body, most);
        (body, trouble) = (inside.into(), met);
    }
    if !is_gzip && !body.is_empty() && codings(headers).any(is_gzip_name) {
        trouble = Some(Trouble::Garbled);
    }
    if body.starts_with(&BYTE_ORDER_MARK) {
        body = body.slice(BYTE_ORDER_MARK.len()..);
    }
    (body, trouble)
}

/// Member for member (RFC 1952 §2.2); what follows the last is nobody's.
fn inflate(mut body: &[u8], most: usize) -> (Vec<u8>, Option<Trouble>) {
    let mut inside = Vec::new();
    while body.starts_with(&GZIP) {
        let room = most.saturating_sub(inside.len());
        let mut member = GzDecoder::new(body).take(u64::try_from(room).unwrap_or(u64::MAX).saturating_add(1));
        if let Err(error) = member.read_to_end(&mut inside) {
            let trouble = match error.kind() {
                io::ErrorKind::UnexpectedEof => Trouble::BrokenOff,
                _ => Trouble::Garbled,
            };
            return (inside, Some(trouble));
        }
        if inside.len() > most {
            return (inside, Some(Trouble::TooLarge));
        }
        body = member.into_inner().into_inner();
    }
    (inside, None)
}

/// All that `Content-Encoding` names that nobody here can undo, for a sentence.
pub(crate) fn unknown(headers: &HeaderMap) -> Option<String> {
    let unknown: Vec<_> =
        codings(headers).filter(|name| !is_gzip_name(name) && !name.eq_ignore_ascii_case("identity")).collect();
    (!unknown.is_empty()).then(|| unknown.join(", "))
}

fn codings(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let values = headers.get_all(CONTENT_ENCODING).iter();
    let names = values.flat_map(|value| value.to_str().unwrap_or("(no text)").split(','));
    names.map(str::trim).filter(|name| !name.is_empty())
}

/// In any case, and by its old name too (RFC 9110 §8.4.1).
fn is_gzip_name(name: &str) -> bool {
    name.eq_ignore_ascii_case("gzip") || name.eq_ignore_ascii_case("x-gzip")
}
