//! What must hold whatever comes in: the properties that the fuzz targets (`fuzz/`) and plain `cargo test` both check.
//!
//! Each takes raw bytes, reads them as lines so that seeds are readable text, and panics where its promise is broken. Those
//! that need a service use one without a socket (`service.rs`), by way of the client's public methods alone.

#![allow(clippy::expect_used, clippy::panic)]

mod conversation;
mod error_body;
mod id;
mod models;
mod quota;
mod request;
#[cfg(feature = "simulator")]
mod request_differential;
mod retry_after;
mod service;
mod token_response;

pub use conversation::conversation;
pub use error_body::error_body;
pub use id::id;
pub use models::models;
pub use quota::quota;
pub use request::request;
#[cfg(feature = "simulator")]
pub use request_differential::request_differential;
pub use retry_after::retry_after;
pub use token_response::token_response;

use percent_encoding::percent_decode_str;
use reqwest::Url;

use crate::request::OPERATIONS;

/// The words that the routes of scripts have where an id could be.
pub(crate) fn route_words() -> impl Iterator<Item = &'static str> {
    let below_scripts = OPERATIONS.iter().filter_map(|operation| operation.route.strip_prefix("/api/v2/scripts/"));
    below_scripts.flat_map(|route| route.split('/')).filter(|part| !is_parameter(part))
}

fn decoded(segment: &str) -> String {
    percent_decode_str(segment).decode_utf8_lossy().into_owned()
}

fn is_parameter(part: &str) -> bool {
    part.starts_with('{')
}

/// The number at the line's start, held to what can be counted.
fn number(line: &str) -> i128 {
    let (sign, digits) = line.strip_prefix('-').map_or((1, line), |digits| (-1, digits));
    let digits = digits.bytes().take_while(u8::is_ascii_digit);
    sign * digits.fold(0_i128, |number, byte| (number * 10 + i128::from(byte - b'0')).min(u64::MAX.into()))
}

/// Nothing in it that a terminal obeys or an eye cannot see.
fn is_printable(text: &str) -> bool {
    !text.chars().any(|c| {
        c.is_control()
            || matches!(c, '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2060}'..='\u{206F}' | '\u{FEFF}')
    })
}

/// Whether the host is this machine, told in another way than `region.rs` does.
fn is_loopback(base: &Url) -> bool {
    match (base.domain(), base.host_str()) {
        (Some(domain), _) => domain == "localhost",
        (None, Some(address)) => address == "[::1]" || address.starts_with("127."),
        (None, None) => false,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::select;

    /// Seeds are also the regressions: an input that the fuzzer found goes there.
    fn each_seed(target: &str, property: fn(&[u8])) {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        // Cargo writes this file into packages, which have no seeds.
        if here.join("Cargo.toml.orig").exists() {
            return;
        }
        let seeds = here.join("fuzz/seeds").join(target);
        let mut run = 0;
        for seed in std::fs::read_dir(&seeds).unwrap_or_else(|error| panic!("{}: {error}", seeds.display())) {
            let path = seed.expect("a directory entry").path();
            println!("{}", path.display());
            property(&std::fs::read(&path).expect("a seed"));
            run += 1;
        }
        assert!(run > 0, "{} has no seeds", seeds.display());
    }

    #[test]
    fn every_seed_of_conversation() {
        each_seed("conversation", super::conversation);
    }

    #[test]
    fn every_seed_of_error_body() {
        each_seed("error_body", super::error_body);
    }

    #[test]
    fn every_seed_of_id() {
        each_seed("id", super::id);
    }

    #[test]
    fn every_seed_of_models() {
        each_seed("models", super::models);
    }

    #[test]
    fn every_seed_of_quota() {
        each_seed("quota", super::quota);
    }

    #[test]
    fn every_seed_of_request() {
        each_seed("request", super::request);
    }

    #[cfg(feature = "simulator")]
    #[test]
    fn every_seed_of_request_differential() {
        each_seed("request_differential", super::request_differential);
    }

    #[test]
    fn every_seed_of_retry_after() {
        each_seed("retry_after", super::retry_after);
    }

    #[test]
    fn every_seed_of_token_response() {
        each_seed("token_response", super::token_response);
    }

    /// Pieces of what feeders, gateways and attackers make of ids.
    #[rustfmt::skip]
    const PIECES: &[&str] = &[
        ".", "..", "%2e", "%2E%2E", "%252e", "/", "\\", "%2f", "%5c", "?", "#", "&", "=", ";", ":", "@", "%", "%%", "%0", "+", " ",
        "\t", "\n", "\r\n", "\0", "\u{1b}[31m", "\u{7f}", "\u{85}", "\u{a0}", "\u{ad}", "\u{200b}", "\u{202e}", "\u{feff}", "\u{3000}",
        "published", "divisionviews", "uploads", "Published", "${", "{{", "}}", "}", "${scriptId}", "%scriptId%", "<EOF>", "<", ">", "null",
        "undefined", "scriptId", "script_id", "é", "🦀", "a", "-", "_", "~", "476c2b71-7429-11e4-9a5b-3f91746bffa3", "\"", "'", "|", "^", "`",
    ];

    proptest! {
        #![proptest_config(ProptestConfig { cases: 10_000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn ten_thousand_ids_are_refused_or_one_segment(
            text in prop_oneof![
                vec(any::<char>(), 0..300).prop_map(String::from_iter),
                vec(select(PIECES), 0..8).prop_map(|pieces| pieces.concat()),
                vec(prop_oneof![select(PIECES).prop_map(str::to_owned), any::<char>().prop_map(String::from)], 0..12)
                    .prop_map(|pieces| pieces.concat()),
                "[ -~]{0,40}",
            ]
        ) {
            super::id(text.as_bytes());
        }
    }

    proptest! {
        // Each makes some seventy requests.
        #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn whatever_is_given_makes_requests_on_their_routes(
            base in select(&["https://api.mypurecloud.de", "https://gw.example.com/a//", "http://127.1/%2e%2e/b;c", "HTTPS:/x{y/é"][..]),
            lines in vec(vec(select(PIECES), 1..4).prop_map(|pieces| pieces.concat()), 0..10),
        ) {
            super::request(format!("{base}\nproptest\n{}", lines.join("\n")).as_bytes());
        }
    }

    /// One of the lines that a property knows, with numbers in the place of each `#`.
    fn lines(of: &'static [&'static str]) -> impl Strategy<Value = String> {
        let number = select(&["0", "1", "2", "3", "7", "50", "60", "1000", "61500", "-1", "4294967296"][..]);
        let line = (select(of), vec(number, 4)).prop_map(|(line, numbers)| {
            numbers.into_iter().fold(line.to_owned(), |line, number| line.replacen('#', number, 1))
        });
        vec(line, 0..60).prop_map(|lines| lines.join("\n"))
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn no_quota_blocks_another_or_for_ever_or_is_overrun(
            limits in select(&["limit 3 60 a b\nlimit 7 10 c", "limit 60 2 a\nlimit 50 60 b c", "limit 100 120 a b c d"][..]),
            events in lines(&["send a #", "send b #", "send c 3", "answer a #", "answer b 3", "answer c 3", "lose a 1", "pass #", "pass 900"]),
            lies in lines(&["send a 2", "send b 2", "answer b 2", "tell a # # #", "tell b # # #", "refuse a #", "refuse b #", "pass #"]),
        ) {
            super::quota(format!("{limits}\n{events}").as_bytes());
            super::quota(format!("{limits}\n{lies}\n{events}").as_bytes());
        }
    }

    proptest! {
        // Each is an hour of the paused clock, and a client.
        #![proptest_config(ProptestConfig { cases: 30, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn whatever_is_said_and_done_every_call_ends_and_leaves_nothing(
            text in lines(&[
                "a get", "a get", "b get", "c get", "a publish", "a cancel", "b cancel", "a log out", "c log out", "pass #", "pass #",
                "api 503", "api 401", "api 400", "api 429 #", "api broken", "api silence", "api 200 0 #", "quota 2 # #",
                "login 400", "login 401", "login 500", "login broken", "login silence", "login 200 0 #", "token #",
            ]),
        ) {
            super::conversation(text.as_bytes());
        }
    }
}
