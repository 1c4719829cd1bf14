//! A `GET` of whatever else the API has, under the same care.

use crate::agent::Agent;
use crate::error::Error;
use crate::id::{IdProblem, segment_problem};
use crate::json::{Json, decode_any};
use crate::request::{self, Spec};
use crate::text::{is_hidden, quoted};

/// The API's root.
const ROOT: &str = "/api/v2/";

impl Agent {
    /// What a `GET` of this path answers, as raw JSON: for what this crate has no method for.
    ///
    /// The path is the API's, from `/api/v2/` on, encoded as it is to be sent, with a query if you like. It is sent with the
    /// agent's token to the region's api host, with the same limits, retries and errors as any call. All of these calls are one
    /// operation, `get`: where the service answers nothing but failures to them, all of them wait.
    ///
    /// # Errors
    ///
    /// As for [`script`](Self::script). [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput), and nothing is sent, for a path
    /// that does not begin with `/api/v2/`, has an empty segment, a dot segment or a placeholder in it (also percent-encoded), an
    /// encoded `/`, a `\`, a `#`, or characters that nobody sees.
    ///
    /// ```no_run
    /// # async fn example(agent: genesys_scripts::Agent) -> Result<(), genesys_scripts::Error> {
    /// #[derive(serde::Deserialize)]
    /// struct Me {
    ///     name: String,
    /// }
    /// let me: Me = agent.get("/api/v2/users/me?expand=presence").await?.decode()?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn get(&self, path: &str) -> Result<Json, Error> {
        check(path)
            .map_err(|why| Error::invalid_input(format!("the path {} {why}; nothing was sent", quoted(path))))?;
        let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
        let mut url = self.client().api.site.base().clone();
        url.set_path(&format!("{}{path}", url.path().trim_end_matches('/')));
        url.set_query(query);
        let spec = Spec { address: Some(&url), ..Spec::of(&request::GET_ANY, &[]).about(path) };
        decode_any("JSON", &spec, &*self.run(&spec).await?)
    }
}

/// Why a request is not sent there.
fn check(path: &str) -> Result<(), &'static str> {
    if path.chars().any(is_hidden) {
        return Err("has a character in it that nobody sees");
    }
    if path.contains('#') {
        return Err("has a # in it, which no request is sent with");
    }
    let below = path.strip_prefix(ROOT).ok_or("does not begin with /api/v2/")?;
    if path.contains("${") || path.contains("{{") {
        return Err(IdProblem::Placeholder.explanation());
    }
    let (below, _) = below.split_once('?').unwrap_or((below, ""));
    for segment in below.split('/') {
        if let Some(problem) = segment_problem(segment) {
            return Err(match problem {
                IdProblem::Empty => "has an empty segment: was an id empty?",
                IdProblem::Slash => "has an encoded / or a \\ in it",
                IdProblem::DotSegment => "has a dot segment in it: the request would have walked up the path",
                IdProblem::TooLong => "has a segment that is longer than 256 bytes",
                other => other.explanation(),
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_leaves_the_api_or_was_never_filled_in_is_refused() {
        for path in [
            "",
            "/",
            "users/me",
            "/api/v1/users",
            "/api/v2",
            "/api/v2/",
            "/API/v2/users/me",
            "//evil.example/api/v2/users",
            "https://evil.example/api/v2/users",
            "@evil.example/api/v2/users",
            "/api/v2/../../oauth/token",
            "/api/v2/users/..",
            "/api/v2/./users",
            "/api/v2/%2e%2e/oauth",
            "/api/v2/.%2E/oauth",
            "/api/v2/%252e%252e/oauth",
            "/api/v2/..;/oauth",
            "/api/v2/..;x=1/oauth",
            "/api/v2/%2e%2e;/oauth",
            "/api/v2/..\\oauth",
            "/api/v2/users%2F..%2f..",
            "/api/v2/users%5c..",
            "/api/v2/users//presence",
            "/api/v2/users/",
            "/api/v2/users/?expand=x",
            "/api/v2/users/me#top",
            "/api/v2/users/${userId}",
            "/api/v2/users/{userId}",
            "/api/v2/users/%7BuserId%7D",
            "/api/v2/users/{{userId}}",
            "/api/v2/users?id=${userId}",
            "/api/v2/users/undefined",
            "/api/v2/users/null",
            "/api/v2/users/<EOF>",
            "/api/v2/users/\r\nHost: evil.example",
            "/api/v2/users/\u{200B}me",
            "/api/v2/users/%00",
            "/api/v2/\t../users",
        ] {
            assert!(check(path).is_err(), "{path:?}");
        }
    }

    #[test]
    fn the_paths_of_the_api_are_let_through() {
        for path in [
            "/api/v2/users/me",
            "/api/v2/users/me?expand=presence,authorization&x=..",
            "/api/v2/scripts/published",
            "/api/v2/scripts/published/476c2b71-7429-11e4-9a5b-3f91746bffa3/pages",
            "/api/v2/routing/queues?name=a%20b%2Fc",
            "/api/v2/routing/skills/a%20b",
            "/api/v2/quality/forms/evaluations/x;y",
            "/api/v2/date?at=2026-11-26T14:00:00Z",
        ] {
            assert_eq!(check(path), Ok(()), "{path:?}");
        }
    }
}
