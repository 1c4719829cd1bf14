//! What only published scripts have: their variables, and publishing itself.

use axum::Json;
use axum::response::IntoResponse;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::gate::{Answer, Call};
use super::ids::parse_id;
use super::refusal::Refusal;
use super::scripts::{answer_script, read};

/// An object: each variable under its name.
pub(super) async fn variables(call: Call) -> Answer {
    let input = call.query.one_of("input", &["true", "false"])?.map(|text| text == "true");
    let output = call.query.one_of("output", &["true", "false"])?.map(|text| text == "true");
    let kind = call.query.one_of("type", &["string", "number", "boolean"])?;
    let seen = call.service.library().find_published(call.script_id()?)?;

    let is = |variable: &Value, flag: &str, wanted: Option<bool>| {
        wanted.is_none_or(|wanted| variable.get(flag).and_then(Value::as_bool).unwrap_or(false) == wanted)
    };
    let chosen = read(&seen)?.variables().into_iter().filter(|variable| {
        let of_kind = variable.pointer("/type/name").and_then(Value::as_str).map(str::to_ascii_lowercase);
        is(variable, "input", input)
            && is(variable, "output", output)
            && kind.is_none_or(|kind| of_kind.as_deref() == Some(kind))
    });
    let by_name = chosen.filter_map(|variable| Some((variable.get("name")?.as_str()?.to_owned(), variable)));
    Ok(Json(by_name.collect::<Map<String, Value>>()).into_response())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PublishRequest {
    script_id: String,
    version_id: Option<String>,
}

/// Makes the editable version, or the one named, what agents see.
pub(super) async fn publish(call: Call) -> Answer {
    let wanted: PublishRequest = call.json()?.ok_or_else(Refusal::bad_request)?;
    let script = parse_id(&wanted.script_id)?;
    let version = wanted.version_id.as_deref().filter(|id| !id.is_empty()).map(parse_id).transpose()?;
    let seen = call.service.library().publish(script, version)?;
    answer_script(&seen)
}
