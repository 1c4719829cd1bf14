//! What an outcome means: a status by one table, and an attempt's outcome for its call. Nothing here waits, counts or sends.

use std::borrow::Cow;
use std::time::{Duration, SystemTime};

use http::{Method, StatusCode};

use crate::answer::Answer;
use crate::error::cause::{self, Endpoint, RequestFacts};
use crate::error::{BadRequest, Cause, Envelope, Error, ErrorBody, ErrorKind, GaveUp};
use crate::failure::{Failure, Outcome};
use crate::limits::outage::Failed;
use crate::request::{OnHost, Repeat, Spec};
use crate::retry::{hint, retry_after};
use crate::text::redact;

/// So often a 409 is repeated: after so long at first, and twice as long each time.
const CONFLICTS: u32 = 3;
const SETTLES: Duration = Duration::from_secs(2);

/// What a status that is no success means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Class {
    pub(crate) kind: ErrorKind,
    pub(crate) meaning: &'static str,
    /// Another attempt may fare better.
    pub(crate) passing: bool,
    /// The service may have acted, and its answer is lost.
    pub(crate) lost: bool,
    /// Nothing but these is an outage.
    pub(crate) outage: bool,
}

/// The one table of statuses.
pub(crate) fn class(status: StatusCode) -> Class {
    let (kind, meaning) = match status.as_u16() {
        400 => (ErrorKind::BadRequest, "the service refused the request"),
        401 => (ErrorKind::Unauthorized, "the access token was refused"),
        403 => (ErrorKind::Forbidden, "the agent may not do this"),
        404 => (ErrorKind::NotFound, "the service knows no such resource"),
        407 => (ErrorKind::UnexpectedAnswer, "a proxy on the way wants credentials"),
        408 => (ErrorKind::Timeout, "the service gave up waiting for the request"),
        409 => (ErrorKind::Conflict, "another change is under way or has not settled yet, so this was not done"),
        412 => (ErrorKind::Conflict, "the resource was changed meanwhile"),
        423 => (ErrorKind::Conflict, "it is locked for now, so this was not done"),
        413 => (ErrorKind::TooLarge, "the request is over the service's size limit"),
        429 => (ErrorKind::Throttled, "the service allows no more of these requests for now"),
        500..=599 => (ErrorKind::Server, "the service failed"),
        300..=399 => (ErrorKind::UnexpectedAnswer, "the service answered with a redirect, which is not followed"),
        _ => (ErrorKind::UnexpectedAnswer, "the service answered with an unexpected status"),
    };
    let outage = kind == ErrorKind::Server;
    let lost = outage || kind == ErrorKind::Timeout;
    Class { kind, meaning, passing: lost || kind == ErrorKind::Throttled, lost, outage }
}

/// What an attempt's outcome means for the call.
pub(crate) enum Verdict {
    Done(Box<Answer>),
    /// The token was refused; with another one the call may be allowed.
    ReplaceToken(Error),
    /// A limit: wait as long as it says, or as long as a backoff where it does not; not at all where that is beyond the cap.
    Throttled(Error),
    /// Another attempt may fare better, not before this long.
    Retry(Option<Duration>, Error),
    Fail(Error),
}

/// What an outcome says of its route.
pub(crate) enum Signal {
    /// Answered, with something that is no failure of the service.
    Answered,
    Failed(Failed),
    Nothing,
}

/// What was asked, as far as the verdict depends on it.
pub(crate) struct Asked<'a> {
    pub(crate) spec: &'a Spec<'a>,
    /// What an answer must not be let echo.
    pub(crate) secrets: &'a [&'a str],
    /// Attempts the service may have acted on without its answer reaching us, this one among them.
    pub(crate) lost: u32,
    /// Its attempts that failed before this one.
    pub(crate) failures: u32,
    pub(crate) can_replace_token: bool,
    pub(crate) retry_after_cap: Duration,
    pub(crate) now: SystemTime,
}

/// What an outcome means for its call, and what it says of its route. Of a patient call, which is slow by nature (a file, or an
/// answer the service may hold back), no slowness is a failure.
pub(crate) fn of(asked: &Asked<'_>, outcome: Outcome) -> (Verdict, Signal) {
    match outcome {
        Ok(answer) if answer.status.is_success() => (Verdict::Done(answer), Signal::Answered),
        // Without a token to lose, it can be followed; whose call it is checks where to.
        Ok(answer) if answer.status.is_redirection() && asked.endpoint() == Endpoint::SignedUrl => {
            (Verdict::Done(answer), Signal::Answered)
        }
        Ok(answer) => of_refusal(asked, &answer),
        Err(failure) => of_failure(asked, failure),
    }
}

fn of_failure(asked: &Asked<'_>, failure: Failure) -> (Verdict, Signal) {
    let signal = match failure.of_service && !(asked.spec.patient && failure.kind == ErrorKind::Timeout) {
        true => Signal::Failed(Failed { text: failure.what.clone(), silent: failure.silent, wait: None }),
        false => Signal::Nothing,
    };
    let (transient, never_sent) = (failure.transient, failure.never_sent);
    let error = failure.into_error(asked.secrets);
    match transient {
        true => (asked.again(never_sent, None, error), signal),
        false => (Verdict::Fail(error), signal),
    }
}

fn of_refusal(asked: &Asked<'_>, answer: &Answer) -> (Verdict, Signal) {
    let error = refusal(asked, answer);
    let (status, cap, class) = (answer.status, asked.retry_after_cap, class(answer.status));
    let wait = retry_after(&answer.headers, asked.now).or_else(|| hint(error.message()?));
    let signal = match status.as_u16() {
        504 if asked.spec.patient => Signal::Nothing,
        _ if is_up(status) => Signal::Answered,
        code if class.outage => {
            let wait = wait.filter(|_| status == StatusCode::SERVICE_UNAVAILABLE).map(|wait| wait.min(cap));
            Signal::Failed(Failed { text: format!("it answered {code}"), silent: false, wait })
        }
        _ => Signal::Nothing,
    };
    if status == StatusCode::UNAUTHORIZED && asked.can_replace_token {
        // However long it asks to wait: that is for the token it refused.
        return (Verdict::ReplaceToken(error), signal);
    }
    let is_beyond_cap = wait.is_some_and(|wait| wait > cap);
    let error = if is_beyond_cap { error.gave_up(GaveUp::WaitBeyondCap) } else { error };
    let error = error.with_retry_after(wait);
    let verdict = if status == StatusCode::TOO_MANY_REQUESTS || error.is_throttled() {
        Verdict::Throttled(error)
    } else if is_beyond_cap {
        Verdict::Fail(error)
    } else if asked.spec.operation.is_of_script() && cause::is_invalid_definition(&error) {
        // The service did not act; whether it is the script or the moment is for the evidence to say.
        Verdict::Retry(wait, error)
    } else if matches!(status, StatusCode::CONFLICT | StatusCode::LOCKED) && asked.settles() {
        match 1_u32.checked_shl(asked.failures).filter(|_| asked.failures < CONFLICTS) {
            Some(times) => Verdict::Retry(wait.or(Some(SETTLES * times)), error),
            None => Verdict::Fail(error.gave_up(GaveUp::AttemptsSpent)),
        }
    } else if class.passing {
        asked.again(false, wait, error)
    } else {
        Verdict::Fail(error)
    };
    (verdict, signal)
}

/// Whether who answers so is up. A gateway says some of these by itself.
pub(crate) fn is_up(status: StatusCode) -> bool {
    !class(status).outage && !matches!(status.as_u16(), 401 | 403 | 407 | 429)
}

impl Asked<'_> {
    fn endpoint(&self) -> Endpoint {
        match self.spec.operation.host {
            OnHost::Login => Endpoint::Login,
            OnHost::Download => Endpoint::SignedUrl,
            OnHost::Api | OnHost::Upload => Endpoint::Api,
        }
    }

    /// Whether a 409, or a 423, may be repeated, once what it speaks of has settled. It refuses, so nothing was done. But of an upload that
    /// something on the way sent twice, it is the second's answer, and a third would make another script.
    fn settles(&self) -> bool {
        self.spec.operation.host == OnHost::Api && self.spec.operation.method != Method::GET
    }

    /// Another attempt, where the request may be sent again after this one.
    fn again(&self, never_sent: bool, floor: Option<Duration>, error: Error) -> Verdict {
        let may = match self.spec.operation.repeat {
            Repeat::Always => true,
            Repeat::IfNeverSent => never_sent,
            Repeat::OnceIfLost => never_sent || self.lost <= 1,
        };
        if may { Verdict::Retry(floor, error) } else { Verdict::Fail(error.gave_up(GaveUp::NotIdempotent)) }
    }
}

/// Whether the service may have acted on an attempt without its answer reaching us.
pub(crate) fn is_lost(outcome: &Outcome) -> bool {
    match outcome {
        Ok(answer) => !answer.status.is_success() && class(answer.status).lost,
        Err(failure) => !failure.never_sent,
    }
}

/// The error that a refusal is, before it is known whether the call goes on. Nothing of it is lost.
fn refusal(asked: &Asked<'_>, answer: &Answer) -> Error {
    let (spec, endpoint) = (asked.spec, asked.endpoint());
    let body = ErrorBody::read(&answer.headers, &answer.body, asked.secrets);
    let correlation_id = answer.correlation_id().map(|id| redact(id, asked.secrets).into());
    let is_throttled_login = endpoint == Endpoint::Login && answer.status == StatusCode::TOO_MANY_REQUESTS;
    // A login's refusals have causes at any of the statuses it refuses with: of an unknown client RFC 6749 says 401.
    let is_refused_login = endpoint == Endpoint::Login && matches!(answer.status.as_u16(), 401 | 403);
    let why = (answer.status == StatusCode::BAD_REQUEST || is_refused_login).then(|| {
        let (parameters, data): (Vec<_>, _) = (spec.query.iter().map(|(name, _)| *name).collect(), spec.data());
        let request = RequestFacts {
            of_script: spec.operation.is_of_script(),
            had_body: spec.body.is_some(),
            odd_id: spec.odd_id(),
            parameters: &parameters,
            data: &data.iter().map(AsRef::as_ref).collect::<Vec<_>>(),
        };
        cause::classify(&cause::Evidence { endpoint, headers: &answer.headers, body: &body, request })
    });
    let why = why.or_else(|| is_throttled_login.then(|| BadRequest::login_refused_for_limit(&body)));
    let (kind, meaning) = match endpoint {
        Endpoint::Login => of_login(answer.status, &body, why.as_ref().map(|why| &why.cause)),
        Endpoint::SignedUrl => of_signed_url(answer.status),
        Endpoint::Api if spec.operation.host == OnHost::Upload && answer.status == StatusCode::CONFLICT => {
            (ErrorKind::Conflict, "the service has this upload already, or another: look which scripts there are")
        }
        Endpoint::Api => of_api(answer.status, &body, correlation_id.is_some()),
    };
    let meaning: Cow<'static, str> =
        match body.limit.as_ref().filter(|_| kind == ErrorKind::Throttled).and_then(|limit| limit.described()) {
            Some(limit) => format!("{meaning}: {limit} is reached").into(),
            None => meaning.into(),
        };
    let error = Error::new(kind, meaning).with_answer(answer.status, correlation_id).with_body(body);
    match why {
        Some(why) => error.with_bad_request(why),
        None => error,
    }
}

/// What a status means is the service's to say, not that of what stands before it.
fn of_api(status: StatusCode, body: &ErrorBody, has_correlation_id: bool) -> (ErrorKind, &'static str) {
    let Class { kind, meaning, .. } = class(status);
    let meaning = match status.as_u16() {
        403 if body.envelope == Envelope::Gateway => "this is forbidden",
        404 if body.envelope == Envelope::Gateway && !has_correlation_id => "nothing was found at this address",
        _ if has_correlation_id || !matches!(body.envelope, Envelope::Page | Envelope::Other | Envelope::Empty) => {
            meaning
        }
        400 => "the request was refused",
        401 => "the request was refused for want of credentials, by something before the service as it looks",
        403 => "the request was refused, by something before the service as it looks",
        404 => "nothing was found at this address, by something before the service as it looks",
        413 => "the request is over a size limit, of something before the service as it looks",
        429 => "no more of these requests are allowed for now, by something before the service as it looks",
        300..=399 => "a redirect came, which is not followed, from something before the service as it looks",
        407 => meaning,
        _ if kind == ErrorKind::UnexpectedAnswer => {
            "an unexpected status came, from something before the service as it looks"
        }
        _ => meaning,
    };
    (kind, meaning)
}

fn of_login(status: StatusCode, body: &ErrorBody, cause: Option<&Cause>) -> (ErrorKind, &'static str) {
    match (status.as_u16(), cause) {
        (400 | 429, Some(Cause::LoginThrottled)) => (ErrorKind::Throttled, "logins of this OAuth client are throttled"),
        (400, Some(Cause::Overload)) => (ErrorKind::Server, "the login service has too much to do"),
        (400, Some(Cause::Gateway | Cause::WrongScheme | Cause::Header | Cause::ConnectionReuse)) => {
            (ErrorKind::LoginRefused, "the login was refused")
        }
        (400 | 401 | 403, _) if body.is_error_envelope() => {
            (ErrorKind::LoginRefused, "the login was refused: check the credentials")
        }
        (400 | 401 | 403, _) if body.envelope == Envelope::Empty => (ErrorKind::LoginRefused, "the login was refused"),
        (400 | 401 | 403, _) => {
            (ErrorKind::LoginRefused, "the login was refused, by something before the login service as it looks")
        }
        (404, _) => (ErrorKind::LoginRefused, "there is no login service at this address: check the region or URL"),
        // What it means for a script is not what it means here.
        (409 | 412 | 413 | 423, _) => {
            (ErrorKind::UnexpectedAnswer, "the login service answered with an unexpected status")
        }
        _ => (class(status).kind, class(status).meaning),
    }
}

/// Not this API's answers, but those of whatever stores the files.
fn of_signed_url(status: StatusCode) -> (ErrorKind, &'static str) {
    match status.as_u16() {
        400 | 401 | 403 => (ErrorKind::Forbidden, "the URL was refused, as when it has expired: make a new one"),
        404 | 410 => (ErrorKind::NotFound, "there is nothing at the URL, as when it has expired: make a new one"),
        429 => (ErrorKind::Throttled, "the file's host allows no more requests for now"),
        _ => (class(status).kind, class(status).meaning),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use reqwest_retry::{Retryable, default_on_request_success};

    use super::*;

    #[test]
    fn the_table_repeats_what_reqwest_retry_repeats() {
        for status in (300..600).map(|status| StatusCode::from_u16(status).unwrap()) {
            let response = http::Response::builder().status(status).body("").unwrap();
            let theirs = matches!(default_on_request_success(&response.into()), Some(Retryable::Transient));
            assert_eq!(class(status).passing, theirs, "{status}");
        }
    }

    fn asked<'a>(spec: &'a Spec<'a>) -> Asked<'a> {
        Asked {
            spec,
            secrets: &[],
            lost: 0,
            failures: 0,
            can_replace_token: false,
            retry_after_cap: Duration::from_secs(180),
            now: SystemTime::UNIX_EPOCH,
        }
    }

    #[test]
    fn of_what_is_slow_by_nature_slowness_is_no_failure_of_the_service_and_all_else_is() {
        for patient in [false, true] {
            let spec = Spec { patient, ..Spec::of(&crate::request::GET_SCRIPT, &["476c2b71"]) };
            let is_failure = |failure| matches!(of(&asked(&spec), Err(failure)).1, Signal::Failed(_));
            assert_eq!(is_failure(Failure::timed_out("host", None, Duration::from_secs(30), false)), !patient);
            assert_eq!(
                is_failure(Failure::timed_out("host", Some("its time"), Duration::from_secs(3_600), true)),
                !patient
            );
            assert!(is_failure(Failure::broken_off(None, "host", 0)), "{patient}");
            assert!(!is_failure(Failure::too_large("host", 1)), "{patient}");
        }
    }

    /// What becomes of the read of a script that is answered like this.
    fn read_answered(status: u16, retry_after: &str, body: &'static str) -> (Verdict, Signal) {
        let spec = Spec::of(&crate::request::GET_SCRIPT, &["476c2b71"]);
        let asked = asked(&spec);
        let headers = http::HeaderMap::from_iter([(http::header::RETRY_AFTER, retry_after.parse().unwrap())]);
        of(&asked, Ok(Answer::new(StatusCode::from_u16(status).unwrap(), headers, body.into())))
    }

    #[test]
    fn how_long_an_outage_lasts_is_a_503s_to_say() {
        for (status, after, wait) in
            [(500, "9", None), (502, "9", None), (503, "9", Some(9)), (503, "3600", Some(180)), (504, "9", None)]
        {
            let (_, Signal::Failed(failed)) = read_answered(status, after, "") else {
                panic!("{status} is no failure")
            };
            assert_eq!(failed.wait, wait.map(Duration::from_secs), "{status}");
        }
    }

    #[test]
    fn what_a_gateway_says_by_itself_is_no_word_on_the_service() {
        let is_answer = |status| matches!(read_answered(status, "0", "").1, Signal::Answered);
        for status in [401, 403, 407, 429] {
            assert!(matches!(read_answered(status, "0", "").1, Signal::Nothing), "{status}");
        }
        assert!([302, 400, 404, 408, 409, 412, 413, 423].into_iter().all(is_answer));
    }

    #[test]
    fn a_limit_has_the_name_that_the_service_gives_it_and_no_other() {
        let named = r#"{"status":429,"code":"too.many.requests","limit":{"key":"scripts.max","namespace":"scripter"}}"#;
        for (body, name) in [(named, Some("scripts.max")), (r#"{"limit":{"namespace":"x"}}"#, None), ("", None)] {
            let (Verdict::Throttled(error), _) = read_answered(429, "9", body) else { panic!("a 429 is a limit") };
            assert_eq!((error.retry_after(), error.limit_key()), (Some(Duration::from_secs(9)), name));
        }
    }

    #[test]
    fn who_refuses_is_told_where_it_may_not_be_the_service() {
        for (status, text, meaning) in [
            (400, "<html>", "the request was refused"),
            (401, "<html>", "the request was refused for want of credentials, by something before the service"),
            (403, "no", "the request was refused, by something before the service"),
            (404, "no", "nothing was found at this address, by something before the service"),
            (403, "", "the request was refused, by something before the service"),
            (404, "", "nothing was found at this address, by something before the service"),
            (403, r#"{"message":"no"}"#, "this is forbidden"),
            (404, r#"{"message":"no Route matched with those values"}"#, "nothing was found at this address"),
        ] {
            let (_, told) = of_api(StatusCode::from_u16(status).unwrap(), &ErrorBody::parse(text), false);
            assert!(told.starts_with(meaning), "{status} {text}: {told}");
            let with_envelope = ErrorBody::parse(r#"{"message":"m","code":"c","status":400,"contextId":"c1"}"#);
            let (_, told) = of_api(StatusCode::from_u16(status).unwrap(), &with_envelope, false);
            let (_, by_id) = of_api(StatusCode::from_u16(status).unwrap(), &ErrorBody::parse(text), true);
            let meaning = class(StatusCode::from_u16(status).unwrap()).meaning;
            assert!(by_id == meaning || text.starts_with('{'), "the correlation id is the service's: {by_id}");
            assert_eq!(told, class(StatusCode::from_u16(status).unwrap()).meaning);
        }
        let login = |status, text, cause: Option<Cause>| {
            of_login(StatusCode::from_u16(status).unwrap(), &ErrorBody::parse(text), cause.as_ref())
        };
        // Where something is known that is not about the credentials, nobody is sent to check them.
        for cause in [Cause::Gateway, Cause::WrongScheme, Cause::ConnectionReuse] {
            assert_eq!(login(400, "<html>", Some(cause)), (ErrorKind::LoginRefused, "the login was refused"));
        }
        for status in [400, 401, 403] {
            let (kind, told) = login(status, "<html>", None);
            assert!(kind == ErrorKind::LoginRefused && told.contains("by something before"), "{status}: {told}");
            let (kind, told) = login(status, r#"{"error":"invalid_client"}"#, None);
            assert!(kind == ErrorKind::LoginRefused && told.contains("check the credentials"), "{status}: {told}");
        }
        // Neither form is the login's: whose credentials were refused is not known.
        for (text, told) in [("", "the login was refused"), (r#"{"message":"Forbidden"}"#, "by something before")] {
            for status in [400, 401, 403] {
                let (kind, meaning) = login(status, text, None);
                assert!(kind == ErrorKind::LoginRefused && meaning.contains(told), "{status}: {meaning}");
                assert!(!meaning.contains("credentials"), "{status}: {meaning}");
            }
        }
        // Sent again is only what a 400 says, as the login service says it so.
        for status in [401, 403] {
            for cause in [Cause::LoginThrottled, Cause::Overload] {
                assert_eq!(login(status, "", Some(cause)).0, ErrorKind::LoginRefused, "{status}");
            }
        }
        assert!(login(404, "", None).1.contains("check the region"));
        for status in [409, 412, 413, 423] {
            let told = login(status, "", None);
            assert_eq!(told, (ErrorKind::UnexpectedAnswer, "the login service answered with an unexpected status"));
        }
        assert_eq!(login(400, "", Some(Cause::LoginThrottled)).0, ErrorKind::Throttled);
        assert_eq!(login(400, "", Some(Cause::Overload)).0, ErrorKind::Server);
        assert_eq!(login(500, "", None).0, ErrorKind::Server);
    }

    #[test]
    fn what_may_have_acted_is_lost_and_a_refusal_is_not() {
        let lost: Vec<u16> = (300..600).filter(|status| class(StatusCode::from_u16(*status).unwrap()).lost).collect();
        assert_eq!(lost.first(), Some(&408));
        assert_eq!(lost.get(1), Some(&500));
        assert!(!class(StatusCode::TOO_MANY_REQUESTS).lost);
    }
}
