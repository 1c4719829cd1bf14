//! The scripts an organisation starts with, in the shape of an exported `.script` file.

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use uuid::{Uuid, uuid};

use super::document::date_text;
use super::ids::random_id;
use super::library::{Division, Script, Version};

const TEMPLATE: &str = include_str!("sample.script.json");

/// The default scripts: the same ids in every organisation, and only in its published listings.
pub(super) const DEFAULTS: [(Uuid, &str); 3] = [
    (uuid!("476c2b71-7429-11e4-9a5b-3f91746bffa3"), "Default Outbound Script"),
    (uuid!("ffde0662-8395-9b04-7dcb-b90172109065"), "Default Callback Script"),
    (uuid!("766f1221-047a-11e5-bba2-db8c0964d007"), "Default Inbound Script"),
];

/// A script of the organisation, published as it is.
pub(super) fn script(index: u32, organization: Uuid, division: &Division, rng: &mut fastrand::Rng) -> Script {
    published(random_id(rng), format!("Script {}", index + 1), index, organization, division, rng)
}

pub(super) fn defaults(organization: Uuid, division: &Division, rng: &mut fastrand::Rng) -> Vec<Script> {
    let made = DEFAULTS.iter().zip(0..);
    made.map(|((id, name), index)| published(*id, (*name).to_owned(), index, organization, division, rng)).collect()
}

fn published(
    id: Uuid,
    name: String,
    index: u32,
    organization: Uuid,
    division: &Division,
    rng: &mut fastrand::Rng,
) -> Script {
    let created = first_day() + TimeDelta::hours(i64::from(index));
    let version = random_id(rng);
    // Some dates have a fraction and some have none, as the format allows both.
    let modified = created + TimeDelta::milliseconds(if index.is_multiple_of(4) { 0 } else { 98_380 });
    let file = TEMPLATE
        .replace('\n', "")
        .replace("__VARIABLES__", &variables(index, rng))
        .replace("__CALLBACK__", if index.is_multiple_of(3) { "true" } else { "false" })
        .replace("__ID__", &id.to_string())
        .replace("__NAME__", &name)
        .replace("__ORGANIZATION__", &organization.to_string())
        .replace("__VERSION__", &version.to_string())
        .replace("__PAGE__", &random_id(rng).to_string())
        .replace("__ACTIONS__", &actions(index, rng))
        .replace("__CREATED__", &date_text(created))
        .replace("__MODIFIED__", &date_text(modified));
    let version = Version { id: version, name, date: modified, file: Bytes::from(file) };
    let mut script = Script::new(id, division.clone(), created, version);
    script.publish_editable(modified);
    script
}

/// An array, as in exported files, or, of the third and fourth of every four scripts, an object, as the schema has it.
fn actions(index: u32, rng: &mut fastrand::Rng) -> String {
    let id = random_id(rng);
    let action = format!(r#"{{"id":"{id}","name":"Look up the customer","action":{{"block":[]}}}}"#);
    if index % 4 < 2 { format!("[{action}]") } else { format!(r#"{{"{id}":{action}}}"#) }
}

/// An array, as in exported files, or, in every other script, an object, as the schema has it.
fn variables(index: u32, rng: &mut fastrand::Rng) -> String {
    let variable = |name: &str, kind: &str, input: bool, id: Uuid| {
        format!(
            r#"{{"id":"{id}","name":"{name}","description":"","type":{{"isDynamic":false,"isList":false,"name":"{kind}"}},"value":{{"typeName":"{kind}"}},"input":{input},"output":{output}}}"#,
            output = !input
        )
    };
    let (first, second) = (random_id(rng), random_id(rng));
    let name = variable("Customer Name", "string", true, first);
    let count = variable("Open Tickets", "number", false, second);
    if index.is_multiple_of(2) {
        format!("[{name},{count}]")
    } else {
        format!(r#"{{"{first}":{name},"{second}":{count}}}"#)
    }
}

fn first_day() -> DateTime<Utc> {
    // 2025-02-04T09:00:00Z
    DateTime::UNIX_EPOCH + TimeDelta::seconds(1_738_659_600)
}
