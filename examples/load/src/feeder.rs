//! The feeder: a CSV file with a row for each agent, checked before anything is sent.
//!
//! What makes a load test plan ask for `<EOF>`, a header or a blank is refused here with the line it stands on, by the
//! rules that the doctor finds it by. Line ends may be LF or CR LF, and values may be quoted, as long as every reader of
//! CSV takes them to be the same.

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, bail};
use csv::StringRecord;
use genesys_doctor::feed::{Feed, Reading, is_uuid};
use genesys_scripts::{InvalidId, ScriptId};
use secrecy::SecretString;

/// One agent.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) agent: String,
    pub(crate) script: ScriptId,
    pub(crate) login: Login,
}

/// How an agent comes to its token.
#[derive(Clone, Debug)]
pub(crate) enum Login {
    /// It logs in with the client's credentials.
    Client,
    AccessToken(SecretString),
    RefreshToken(SecretString),
}

/// Some 100,000 rows with tokens of a thousand characters.
const LARGEST: u64 = 128 * 1024 * 1024;

/// The most problems told at once.
const SHOWN: usize = 10;

const COLUMNS: &str = "agent, script_id, and access_token or refresh_token or neither";

pub(crate) fn read(path: &Path) -> anyhow::Result<Vec<Row>> {
    let name = path.display();
    let size = std::fs::metadata(path).with_context(|| format!("cannot read {name}"))?.len();
    if size > LARGEST {
        bail!("{name} has {size} bytes; a feeder has {LARGEST} at most");
    }
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {name}"))?;
    parse(&bytes).map_err(|problems| anyhow::anyhow!("{name} cannot be used, and nothing was sent:\n{problems}"))
}

/// So many agents' rows: the first ones, or all again and again.
pub(crate) fn rows_for(rows: Vec<Row>, agents: Option<u32>, recycle: bool) -> Result<Vec<Row>, String> {
    let agents = agents.map_or(rows.len(), |agents| agents as usize);
    if agents <= rows.len() {
        return Ok(rows.into_iter().take(agents).collect());
    }
    if !recycle {
        return Err(format!(
            "the feeder has {} rows for {agents} agents: {} of them would have none (a JMeter plan then asks for <EOF>); \
             add rows, say --agents {}, or --recycle to use them again",
            rows.len(),
            agents - rows.len(),
            rows.len()
        ));
    }
    if rows.iter().any(|row| matches!(row.login, Login::RefreshToken(_))) {
        return Err("--recycle would use refresh tokens again, and each is good once".to_owned());
    }
    Ok(rows.iter().cycle().take(agents).cloned().collect())
}

/// What is wrong, by line.
#[derive(Default)]
struct Problems {
    told: String,
    count: usize,
}

impl Problems {
    fn add(&mut self, line: u64, what: impl std::fmt::Display) {
        self.count += 1;
        if self.count <= SHOWN {
            let _ = writeln!(self.told, "  line {line}: {what}");
        }
    }

    fn ended(mut self) -> Result<(), String> {
        if self.count > SHOWN {
            let _ = writeln!(self.told, "  and {} more", self.count - SHOWN);
        }
        if self.count == 0 { Ok(()) } else { Err(self.told.trim_end().to_owned()) }
    }
}

fn parse(bytes: &[u8]) -> Result<Vec<Row>, String> {
    let feed = Feed::read(bytes, &Reading::strict(&["script_id"], &["agent"])).map_err(|why| format!("  {why}"))?;
    let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(bytes);
    let columns = Columns::of(&reader.headers().cloned().unwrap_or_default())?;
    let mut problems = Problems::default();
    for defect in &feed.defects {
        match defect.rows {
            1 => problems.add(defect.line, &defect.message),
            rows => problems.add(defect.line, format_args!("{} (and {} more like it)", defect.message, rows - 1)),
        }
    }
    // What else is wrong might only follow from these.
    problems.ended()?;
    let mut problems = Problems::default();
    let mut rows = Vec::new();
    let mut refresh_tokens = HashMap::new();
    // Each row is a line, behind the header's. The reader itself counts differently where lines end in CR LF.
    for (line, record) in (2..).zip(reader.records()) {
        let record = record.map_err(|error| format!("  {error}"))?;
        if let Some(row) = columns.row(&record, line, &mut problems) {
            let token = columns.token.and_then(|(at, _)| record.get(at)).unwrap_or_default();
            if matches!(row.login, Login::RefreshToken(_))
                && let Some(first) = refresh_tokens.insert(token.to_owned(), line)
            {
                problems.add(line, format_args!("the refresh_token of line {first} again, and each is good once"));
            }
            rows.push(row);
        }
    }
    problems.ended()?;
    if rows.is_empty() {
        return Err(format!("  line 2: no rows; there is one for each agent: {COLUMNS}"));
    }
    Ok(rows)
}

/// Where each column is.
struct Columns {
    agent: usize,
    script_id: usize,
    /// And whether it is to be refreshed.
    token: Option<(usize, bool)>,
}

impl Columns {
    fn of(header: &StringRecord) -> Result<Self, String> {
        let at = |name: &str| header.iter().position(|column| column.trim().eq_ignore_ascii_case(name));
        let known = ["agent", "script_id", "access_token", "refresh_token"];
        if header.iter().all(|column| !known.contains(&column.trim().to_ascii_lowercase().as_str())) {
            return Err(format!("  line 1: is no header; it names the columns: {COLUMNS}"));
        }
        let mut seen = HashSet::new();
        for column in header {
            if !known.contains(&column) {
                return Err(format!("  line 1: {} is no column; there are {COLUMNS}", shown(column)));
            }
            if !seen.insert(column) {
                return Err(format!("  line 1: the column {column} is there twice"));
            }
        }
        let missing = |name: &str| format!("  line 1: the column {name} is missing; there are {COLUMNS}");
        let (agent, script_id) =
            (at("agent").ok_or_else(|| missing("agent"))?, at("script_id").ok_or_else(|| missing("script_id"))?);
        let token = match (at("access_token"), at("refresh_token")) {
            (Some(_), Some(_)) => {
                return Err("  line 1: access_token and refresh_token; there can be one of them".to_owned());
            }
            (Some(at), None) => Some((at, false)),
            (None, Some(at)) => Some((at, true)),
            (None, None) => None,
        };
        Ok(Self { agent, script_id, token })
    }

    fn row(&self, record: &StringRecord, line: u64, problems: &mut Problems) -> Option<Row> {
        let at = |column: usize| record.get(column).unwrap_or_default();
        let script = script(at(self.script_id)).map_err(|why| problems.add(line, why)).ok();
        let login = match self.token.map(|(column, refresh)| (at(column), refresh)) {
            None => Login::Client,
            Some((token, refresh)) => {
                if let Some(why) = no_token(token) {
                    let name = if refresh { "refresh_token" } else { "access_token" };
                    // Of a secret nothing is shown.
                    problems.add(line, format_args!("{name} {why}"));
                    return None;
                }
                if refresh { Login::RefreshToken(token.into()) } else { Login::AccessToken(token.into()) }
            }
        };
        Some(Row { agent: at(self.agent).to_owned(), script: script?, login })
    }
}

/// Why it is none: a header carries visible ASCII.
fn no_token(token: &str) -> Option<&'static str> {
    if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Some("has characters that no token has");
    }
    (token.len() > 16 * 1024).then_some("is longer than 16 KiB")
}

fn script(id: &str) -> Result<ScriptId, String> {
    let script = id.parse::<ScriptId>().map_err(|invalid| without_nothing_sent(&invalid))?;
    if is_uuid(id) {
        return Ok(script);
    }
    let (id, unencoded) = (shown(id), unencoded(id));
    Err(format!("script_id {id} does not look like one: 8-4-4-4-12 hexadecimal digits{unencoded}"))
}

fn unencoded(id: &str) -> &'static str {
    if id.contains(['?', '#', ' ', '%', '&']) {
        " (and it holds characters that a URL gives a meaning of their own)"
    } else {
        ""
    }
}

/// What the crate says of an id, which also says that nothing was sent, as is said of the file as a whole.
fn without_nothing_sent(invalid: &InvalidId) -> String {
    let text = invalid.to_string();
    text.strip_suffix("; nothing was sent").map_or(text.clone(), str::to_owned)
}

/// For a terminal: escaped and cut.
fn shown(text: &str) -> String {
    format!("{:?}", text.chars().take(60).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "476c2b71-7429-11e4-9a5b-3f91746bffa3";

    #[test]
    fn rows_are_read_with_and_without_tokens_in_any_order_of_columns() {
        let rows = parse(format!("agent,script_id\nanna,{ID}\nbert,{ID}\n").as_bytes()).unwrap();
        assert_eq!(rows.iter().map(|row| row.agent.as_str()).collect::<Vec<_>>(), ["anna", "bert"]);
        assert!(matches!(rows[0].login, Login::Client));
        let rows = parse(format!("script_id,access_token,agent\r\n{ID},abc,\"Doe, Jane\"\r\n").as_bytes()).unwrap();
        assert!(matches!(rows[0].login, Login::AccessToken(_)) && rows[0].agent == "Doe, Jane");
        let rows = parse(format!("agent,script_id,refresh_token\nanna,{ID},abc").as_bytes()).unwrap();
        assert!(matches!(rows[0].login, Login::RefreshToken(_)));
    }

    #[test]
    fn whatever_a_plan_would_send_that_is_no_id_is_refused_with_its_line() {
        let header = "agent,script_id\n";
        let good = format!("anna,{ID}\n");
        let cases: &[(&str, &str)] = &[
            (&format!("{header}{good}\n{good}"), "line 3: is blank"),
            (&format!("{header}{good}   \n"), "line 3: is blank"),
            (&format!("{header}{good}\n\n"), "line 3: is blank"),
            (&format!("\u{feff}{header}{good}"), "line 1: begins with a byte order mark"),
            (&format!("{header}anna,{ID}\r\n"), "line 2: ends in CR LF"),
            (&format!("{header}anna,{ID}\rbert,{ID}\n"), "line 2: has a CR"),
            (&format!("{header}anna,{ID}\r"), "line 2: has a CR"),
            (&format!("{header}anna,\"{ID}\n{good}"), "line 2: a quote is opened"),
            (&format!("{header}anna,{ID}\"\n"), "line 2: a quote inside"),
            (&format!("{header}anna,'{ID}'\n"), "line 2"),
            (&format!("{header}anna, {ID}\n"), "line 2: script_id has blanks"),
            (&format!("{header}anna ,{ID}\n"), "line 2: agent has blanks"),
            (&format!("{header}{good}{header}"), "line 3: the header again"),
            (&format!("{header}{good}anna,\n"), "line 3: script_id is empty"),
            (&format!("{header},{ID}\n"), "line 2: agent is empty"),
            (&format!("{header}anna,${{scriptId}}\n"), "placeholder"),
            (&format!("{header}anna,<EOF>\n"), "placeholder"),
            (&format!("{header}anna,%3CEOF%3E\n"), "placeholder"),
            (&format!("{header}anna,null\n"), "placeholder"),
            (&format!("{header}${{agent}},{ID}\n"), "placeholder"),
            (&format!("{header}anna,scripts/{ID}\n"), "line 2: the script id"),
            (&format!("{header}anna,id?x=1\n"), "a meaning of their own"),
            (&format!("{header}anna,12345\n"), "line 2: script_id \"12345\" does not look like one"),
            (&format!("agent,script_id\r\nanna,{ID}\r\nbert,12345\r\n"), "line 3: script_id \"12345\""),
            (&format!("agent,script_id\r\nanna,{ID}\r\nbert, {ID}\r\n"), "line 3: script_id has blanks"),
            (&format!("\n{header}{good}"), "line 1: is blank"),
            (&format!("\"agent\nx,script_id\n{good}"), "line 1: "),
            (&format!("{header}anna,{ID}0\n"), "does not look like one"),
            (&format!("{header}anna,{ID},extra\n"), "line 2: 3 values for 2 columns"),
            (&format!("{header}anna\n"), "line 2: 1 values for 2 columns"),
            (header, "no rows"),
            ("", "line 1: is no header"),
            (&good, "line 1: is no header"),
            (&format!("agent,scriptid\n{good}"), "\"scriptid\" is no column"),
            (&format!("agent,agent,script_id\n{good}"), "twice"),
            (&format!("script_id\n{ID}\n"), "column agent is missing"),
            (&format!("agent,script_id,access_token,refresh_token\nanna,{ID},a,b\n"), "one of them"),
        ];
        for (text, says) in cases {
            let told = parse(text.as_bytes()).unwrap_err();
            assert!(told.contains(says), "{text:?}: {told}");
        }
        assert!(parse(b"agent,script_id\n\xff,\n").unwrap_err().contains("line 2: not UTF-8"));
    }

    #[test]
    fn a_token_that_is_none_is_refused_and_none_is_shown() {
        for token in ["${token}", "<EOF>", "null", "t0ken with blanks", "tökén", " t0ken", ""] {
            let told = parse(format!("agent,script_id,access_token\nanna,{ID},{token}\n").as_bytes()).unwrap_err();
            assert!(told.contains("line 2: access_token"), "{told}");
            assert!(!told.contains("t0ken"), "{told}");
        }
        let twice = format!("agent,script_id,refresh_token\nanna,{ID},t0ken\nbert,{ID},t0ken\n");
        let told = parse(twice.as_bytes()).unwrap_err();
        assert!(told.contains("line 3: the refresh_token of line 2 again") && !told.contains("t0ken"), "{told}");
    }

    #[test]
    fn many_problems_are_counted_and_ten_shown() {
        let text = format!("agent,script_id\n{}", "anna,nothing-known\n".repeat(25));
        let told = parse(text.as_bytes()).unwrap_err();
        assert!(told.contains("and 15 more") && told.lines().count() == 11, "{told}");
    }

    #[test]
    fn fewer_rows_than_agents_is_an_error_unless_they_may_be_used_again() {
        let rows = parse(format!("agent,script_id\nanna,{ID}\nbert,{ID}\n").as_bytes()).unwrap();
        let error = rows_for(rows.clone(), Some(5), false).unwrap_err();
        assert!(error.contains("2 rows for 5 agents") && error.contains("--recycle"), "{error}");
        let names = |rows: Vec<Row>| rows.into_iter().map(|row| row.agent).collect::<Vec<_>>();
        assert_eq!(names(rows_for(rows.clone(), Some(5), true).unwrap()), ["anna", "bert", "anna", "bert", "anna"]);
        assert_eq!(rows_for(rows.clone(), None, false).unwrap().len(), 2);
        assert_eq!(names(rows_for(rows, Some(1), false).unwrap()), ["anna"]);
        let rows = parse(format!("agent,script_id,refresh_token\nanna,{ID},abc\n").as_bytes()).unwrap();
        assert!(rows_for(rows, Some(2), true).unwrap_err().contains("good once"));
    }
}
