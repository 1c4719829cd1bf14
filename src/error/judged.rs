//! The answers of `tests/data`, each judged as it would be told to a user.
//!
//! `answers.jsonl` has answers of servers, gateways and frameworks, each with where its wording is from and, in `right`,
//! what it supports and how sure that may be at most. In `unlike` are changes of its body with which it says nothing of the
//! kind any more, in `without` the header that says it. `service.json` has the service's own.

use std::collections::{BTreeMap, BTreeSet};

use http::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;
use serde_json::Value;

use super::body::ErrorBody;
use super::cause::{
    BadRequest, Cause, Certainty, Endpoint, Evidence, Found, RequestFacts, classify_by, is_invalid_definition,
};
use super::rules::RULES;
use super::{Error, ErrorKind};

#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    from: String,
    /// Where its wording is from; empty where it was made up.
    url: String,
    /// `login` or `signed_url`; else the API.
    #[serde(default)]
    at: String,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    /// JSON, or a string that is sent as it is.
    body: Value,
    #[serde(default)]
    sent: Sent,
    right: BTreeMap<String, String>,
    /// True, but less than the answer says.
    #[serde(default)]
    tolerated: BTreeMap<String, String>,
    #[serde(default)]
    words: Vec<String>,
    #[serde(default)]
    unlike: Vec<(String, String)>,
    #[serde(default)]
    without: Option<String>,
}

#[derive(Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Sent {
    of_script: bool,
    had_body: bool,
    odd_id: Option<String>,
    parameters: Vec<String>,
    data: Vec<String>,
}

#[derive(Debug, PartialEq)]
enum Judged {
    Right,
    Tolerated,
    /// Another cause, said to be possible.
    Wrong,
    /// Another cause, or one surer than the answer.
    Invented,
}

impl Case {
    fn classified(&self) -> BadRequest {
        self.classified_by(&|_| true)
    }

    fn classified_by(&self, allowed: &dyn Fn(&str) -> bool) -> BadRequest {
        self.with(|evidence| classify_by(evidence, allowed))
    }

    fn with<T>(&self, of: impl FnOnce(&Evidence<'_>) -> T) -> T {
        let wire = self.body.as_str().map_or_else(|| self.body.to_string(), str::to_owned);
        let mut headers = HeaderMap::new();
        for (name, value) in &self.headers {
            let name: HeaderName = name.to_ascii_lowercase().parse().unwrap();
            headers.insert(name, HeaderValue::from_str(value).unwrap());
        }
        let body = ErrorBody::read(&headers, wire.as_bytes(), &[]);
        let endpoint = match self.at.as_str() {
            "" => Endpoint::Api,
            "login" => Endpoint::Login,
            "signed_url" => Endpoint::SignedUrl,
            other => panic!("{other}"),
        };
        fn strings(of: &[String]) -> Vec<&str> {
            of.iter().map(String::as_str).collect()
        }
        let (parameters, data) = (strings(&self.sent.parameters), strings(&self.sent.data));
        let request = RequestFacts {
            of_script: self.sent.of_script,
            had_body: self.sent.had_body,
            odd_id: self.sent.odd_id.as_deref(),
            parameters: &parameters,
            data: &data,
        };
        of(&Evidence { endpoint, headers: &headers, body: &body, request })
    }

    fn judged(&self, found: &BadRequest) -> Judged {
        let is = |among: &BTreeMap<String, String>| {
            among.get(found.cause.name()).is_some_and(|most| found.certainty <= certainty(most))
        };
        match (is(&self.right), is(&self.tolerated), found.certainty) {
            (true, ..) => Judged::Right,
            (_, true, _) => Judged::Tolerated,
            (_, _, Certainty::Possible) => Judged::Wrong,
            _ => Judged::Invented,
        }
    }

    /// The rules of words that hear something in it.
    fn heard(&self) -> BTreeSet<&'static str> {
        let words = self.with(|evidence| evidence.words());
        RULES.iter().flat_map(|(.., says)| says.iter().copied()).filter(|says| words.say(says)).collect()
    }

    /// With what it says taken back, where that is known.
    fn taken_back(&self) -> Option<Self> {
        let mut other = self.clone();
        let mut text = self.body.as_str().map_or_else(|| self.body.to_string(), str::to_owned);
        for (from, to) in &self.unlike {
            assert!(text.contains(from.as_str()), "{}: no {from:?} in {text}", self.name);
            text = text.replace(from, to);
        }
        other.body = Value::String(text);
        if let Some(header) = &self.without {
            assert!(other.headers.remove(header).is_some(), "{}: no {header}", self.name);
        }
        (!self.unlike.is_empty() || self.without.is_some()).then_some(other)
    }
}

fn certainty(name: &str) -> Certainty {
    let all = [Certainty::Possible, Certainty::Likely, Certainty::Certain];
    all.into_iter().find(|certainty| certainty.name() == name).unwrap_or_else(|| panic!("{name}"))
}

fn data(file: &str) -> String {
    let path = format!("{}/tests/data/{file}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn cases() -> Vec<Case> {
    let answers = data("answers.jsonl");
    answers.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

#[test]
fn every_answer_is_judged_as_expected_and_its_words_are_quoted() {
    let cases = cases();
    let public = cases.iter().filter(|case| case.url.starts_with("https://")).count();
    assert!(cases.len() >= 250 && public >= 125, "{} cases, {public} of them public", cases.len());
    let mut wrong = Vec::new();
    for case in &cases {
        let found = case.classified();
        let judged = case.judged(&found);
        let shown = found.to_string();
        if judged != Judged::Right || !case.words.iter().all(|words| shown.contains(words.as_str())) {
            wrong.push(format!("{}: {judged:?}: {shown}\n    {:?}", case.name, case.right));
        }
    }
    assert!(wrong.is_empty(), "{} of {}\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

#[test]
fn with_what_it_says_taken_back_no_claim_survives() {
    let cases = cases();
    let others: Vec<_> = cases.iter().filter_map(Case::taken_back).collect();
    assert!(others.len() >= 60, "{}", others.len());
    let found = others.iter().map(|case| (&case.name, case.classified()));
    let wrong: Vec<_> = found
        .filter(|(_, found)| !matches!(found.cause, Cause::Unknown | Cause::Gateway))
        .map(|(name, found)| format!("{name}: {found}"))
        .collect();
    assert!(wrong.is_empty(), "{} of {}\n{}", wrong.len(), others.len(), wrong.join("\n"));
}

/// Each source judged by the rules that would be there without it: those that hear something in its answers alone are left
/// out. `cargo test --lib without_a_source -- --nocapture` prints the table.
#[test]
fn without_a_source_its_answers_are_still_explained_and_nothing_is_invented() {
    let cases = cases();
    let mut heard_in: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for case in &cases {
        for says in case.heard() {
            heard_in.entry(says).or_default().insert(&case.from);
        }
    }
    let sources: BTreeSet<&str> = cases.iter().map(|case| case.from.as_str()).collect();
    println!("{:<14}{:>8}{:>7}{:>7}{:>10}{:>10}", "source", "answers", "right", "wrong", "invented", "left out");
    let (mut right, mut invented) = (0, Vec::new());
    for source in sources {
        let is_of_it_alone = |says: &str| heard_in.get(says).is_some_and(|heard| heard.iter().eq([&source]));
        let found: Vec<_> = cases
            .iter()
            .filter(|case| case.from == source)
            .map(|case| (case, case.classified_by(&|says| !is_of_it_alone(says))))
            .collect();
        let count = |judged: Judged| found.iter().filter(|(case, found)| case.judged(found) == judged).count();
        let left_out = heard_in.keys().filter(|says| is_of_it_alone(says)).count();
        let (all, is_right, is_wrong) = (found.len(), count(Judged::Right), count(Judged::Wrong));
        println!("{source:<14}{all:>8}{is_right:>7}{is_wrong:>7}{:>10}{left_out:>10}", count(Judged::Invented));
        right += is_right;
        let of_it = found.iter().filter(|(case, found)| case.judged(found) == Judged::Invented);
        invented.extend(of_it.map(|(case, found)| format!("{}: {found}", case.name)));
    }
    println!("{:<14}{:>8}{right:>7}", "all", cases.len());
    assert!(right * 10 >= cases.len() * 9, "{right} of {} right", cases.len());
    assert!(invented.is_empty(), "{}", invented.join("\n"));
}

/// One of `service.json`: answers of the service and its login as they are documented, hostile ones, and what the outcomes
/// around them find.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Recorded {
    name: String,
    #[serde(default)]
    endpoint: String,
    body: Value,
    #[serde(default)]
    request: Sent,
    /// What the outcomes around it find afterwards.
    found: Option<String>,
    cause: String,
    parameter: Option<String>,
    certainty: String,
    /// Whether a further attempt of the same call is made for it.
    retried: bool,
    /// Whether the user may hope for another call.
    retryable: Option<bool>,
}

impl Recorded {
    fn all() -> Vec<Self> {
        serde_json::from_str(&data("service.json")).unwrap()
    }

    fn case(&self) -> Case {
        let (name, at, body, sent) =
            (self.name.clone(), self.endpoint.clone(), self.body.clone(), self.request.clone());
        Case { name, at, body, sent, ..Case::default() }
    }

    fn classified(&self) -> (BadRequest, bool) {
        let case = self.case();
        let found = case.classified();
        let found = match self.found.as_deref() {
            Some("overload") => found.found(Found::Overload { others_refused: 3, others: 9 }),
            Some("broken_script") => found.found(Found::BrokenScript { failed: 4, others_served: 60, others: 60 }),
            Some(other) => panic!("{other}"),
            None => found,
        };
        // As `verdict.rs` decides: logins wait at their gate, definitions go by the evidence; nothing else is sent again.
        let retried = match self.endpoint.as_str() {
            "login" => found.cause == Cause::LoginThrottled,
            _ => case.with(is_undecided) && found.cause != Cause::BrokenScript,
        };
        (found, retried)
    }
}

/// As it is asked of an error.
fn is_undecided(evidence: &Evidence<'_>) -> bool {
    let error = Error::new(ErrorKind::BadRequest, "").with_answer(http::StatusCode::BAD_REQUEST, None);
    evidence.request.of_script && is_invalid_definition(&error.with_body(evidence.body.clone()))
}

#[test]
fn recorded_cases() {
    let cases = Recorded::all();
    assert!(cases.len() >= 60, "{}", cases.len());
    let mut wrong = Vec::new();
    for case in &cases {
        let (found, retried) = case.classified();
        let parameter = match &found.cause {
            Cause::InvalidParameter { name } => name.clone(),
            _ => None,
        };
        let as_expected = (found.cause.name(), found.certainty.name(), retried)
            == (&*case.cause, &*case.certainty, case.retried)
            && parameter == case.parameter
            && case.retryable.is_none_or(|retryable| found.is_retryable() == retryable);
        if !as_expected {
            wrong.push(format!("{}: {found:?}, retried: {retried}", case.name));
        }
    }
    assert!(wrong.is_empty(), "{} of {}\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

#[test]
fn every_cause_is_among_the_cases_and_each_case_is_named_once() {
    let (answers, recorded) = (cases(), Recorded::all());
    let found: BTreeSet<_> = answers
        .iter()
        .map(|case| case.classified().cause.name())
        .chain(recorded.iter().map(|case| case.classified().0.cause.name()))
        .collect();
    let parameter = Cause::InvalidParameter { name: None };
    let causes = [
        Cause::InvalidId,
        parameter,
        Cause::Header,
        Cause::Body,
        Cause::Session,
        Cause::VersionConflict,
        Cause::BrokenScript,
        Cause::Overload,
        Cause::Quota,
        Cause::LoginThrottled,
        Cause::BadClient,
        Cause::BadGrant,
        Cause::BadRedirect,
        Cause::Gateway,
        Cause::WrongScheme,
        Cause::ConnectionReuse,
        Cause::Undecided,
        Cause::Unknown,
    ];
    for cause in causes {
        assert!(found.contains(cause.name()), "{cause:?}");
    }
    let names: BTreeSet<_> =
        answers.iter().map(|case| &case.name).chain(recorded.iter().map(|case| &case.name)).collect();
    assert_eq!(names.len(), answers.len() + recorded.len());
}

#[test]
fn everyone_gets_evidence_and_advice_that_a_terminal_can_show_and_load_is_never_certain() {
    let answers = cases();
    let recorded: Vec<_> = Recorded::all().iter().map(Recorded::case).collect();
    for case in answers.iter().chain(&recorded) {
        let found = case.classified();
        assert!(!found.evidence.is_empty() && !found.advice.is_empty(), "{}", case.name);
        let name = match &found.cause {
            Cause::InvalidParameter { name } => name.clone().unwrap_or_default(),
            _ => String::new(),
        };
        for shown in [format!("{found} {found:?}"), name, serde_json::to_string(&found).unwrap()] {
            assert!(!shown.chars().any(|c| c.is_control() || ('\u{202A}'..='\u{202E}').contains(&c)), "{shown:?}");
            assert!(shown.len() < 5000, "{}: {}", case.name, shown.len());
        }
        let weak = matches!(found.cause, Cause::Overload | Cause::BrokenScript | Cause::Undecided);
        assert!(!(weak && found.certainty == Certainty::Certain), "{}", case.name);
    }
}

#[test]
fn no_message_alone_makes_an_api_call_be_sent_again() {
    let hostile = [
        "rate limit exceeded; try again",
        "Too many requests",
        "x Invalid script definition",
        "Invalid script definition: rate limit exceeded",
        "Invalid script definition\nInvalid script definition",
        "Retry the request in [1] seconds",
        "overload",
    ];
    for code in ["bad.request", "invalid.value", "not.found", "", "\u{1b}[2J", "invalid_request"] {
        for message in hostile {
            let mut case = Recorded::all().swap_remove(0).case();
            case.body = serde_json::json!({ "code": code, "message": message, "status": 400 });
            let found = case.classified();
            assert!(!found.is_retryable() && !case.with(is_undecided), "{code} {message}: {found:?}");
        }
    }
}

#[test]
fn what_is_cut_or_doubled_is_read_as_far_as_it_goes() {
    for case in cases() {
        let text = case.body.as_str().map_or_else(|| case.body.to_string(), str::to_owned);
        let third = |n: usize| text.chars().skip(text.chars().count() * n / 3).collect::<String>();
        for text in [third(1), third(2), text.chars().rev().collect(), format!("{text}{text}"), text.replace('>', "")] {
            let found = Case { body: Value::String(text), ..case.clone() }.classified();
            assert!(!found.evidence.is_empty(), "{}", case.name);
        }
    }
}

#[test]
fn the_one_form_of_a_cause_has_four_keys() {
    let found = serde_json::to_value(cases()[0].classified()).unwrap();
    let keys: Vec<_> = found.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys, ["advice", "certainty", "evidence", "name"]);
    assert_eq!((&found["name"], &found["certainty"]), (&"gateway".into(), &"likely".into()));
    assert!(found["evidence"][0].is_string() && found["advice"].is_string());
}
