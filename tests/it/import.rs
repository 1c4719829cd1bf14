//! An import from end to end: what became of the upload, and which script it is. On a paused clock, without sockets.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::future::join_all;
use genesys_scripts::simulator::Simulator;
use genesys_scripts::{Client, DefaultScript, ErrorKind, ImportScript, PublishScript, Region, ScriptFile, ScriptId};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::common::{self, HERE, ID, Reply, Scripted, Seen, credentials, id, reply};
use crate::transfer::{UPLOADS, agent, file, parts, upload_id};

const NEW: &str = "0e000000-0000-4000-8000-000000000001";
const OLD: &str = "0d000000-0000-4000-8000-000000000001";

fn scripts(of: &[(&str, &str)]) -> String {
    let entities: Vec<_> = of.iter().map(|(id, name)| json!({ "id": id, "name": name })).collect();
    json!({ "entities": entities, "pageCount": 1, "total": entities.len() }).to_string()
}

/// The service, in as far as an import needs it: what the status says, poll by poll (the last for ever), and what is
/// listed, look by look, as edited and as published. The first look is before the upload.
#[derive(Clone)]
struct Service {
    statuses: Arc<Mutex<VecDeque<(u16, String)>>>,
    edited: Arc<dyn Fn(usize) -> Reply + Send + Sync>,
    published: Arc<dyn Fn() -> Reply + Send + Sync>,
    looked: Arc<Mutex<usize>>,
}

impl Service {
    fn new<S: Into<String> + Clone>(statuses: &[(u16, S)]) -> Self {
        let statuses = statuses.iter().map(|(status, body)| (*status, body.clone().into())).collect();
        Self {
            statuses: Arc::new(Mutex::new(statuses)),
            edited: Arc::new(|looked| {
                reply(200, if looked == 1 { scripts(&[]) } else { scripts(&[(NEW, "Inbound")]) })
            }),
            published: Arc::new(|| reply(200, scripts(&[]))),
            looked: Arc::default(),
        }
    }

    fn edited(mut self, listed: impl Fn(usize) -> Reply + Send + Sync + 'static) -> Self {
        self.edited = Arc::new(listed);
        self
    }

    fn published(mut self, listed: impl Fn() -> Reply + Send + Sync + 'static) -> Self {
        self.published = Arc::new(listed);
        self
    }

    fn transport(self) -> Scripted {
        Scripted::by(move |seen| {
            if seen.is_login() {
                return common::token("the-access-token");
            }
            let path = seen.url.split('?').next().unwrap();
            if path.starts_with(UPLOADS) {
                reply(200, r#"{"correlationId":"up-1"}"#)
            } else if path.ends_with("/status") {
                let mut statuses = self.statuses.lock().unwrap();
                let (status, body) = statuses[0].clone();
                if statuses.len() > 1 {
                    statuses.pop_front();
                }
                match status {
                    0 => Reply::Silence,
                    1 => Reply::Broken(std::io::ErrorKind::ConnectionReset),
                    status => reply(status, body),
                }
            } else if path.ends_with("/published") {
                (self.published)()
            } else {
                let mut looked = self.looked.lock().unwrap();
                *looked += 1;
                (self.edited)(*looked)
            }
        })
    }
}

fn polls(transport: &Scripted) -> Vec<Seen> {
    transport.calls().into_iter().filter(|seen| seen.url.contains("/status")).collect()
}

fn within(seconds: u64) -> ImportScript {
    ImportScript { timeout: Duration::from_secs(seconds), ..ImportScript::default() }
}

const PENDING: (u16, &str) = (200, "{}");
const NOT_YET: (u16, &str) = (200, r#"{"succeeded":false}"#);
const DONE: (u16, &str) = (200, r#"{"succeeded":true,"message":"done"}"#);
const INVALID: (u16, &str) = (200, r#"{"succeeded":false,"message":"Invalid file"}"#);
const UNKNOWN: (u16, &str) = (404, r#"{"code":"not.found"}"#);

#[tokio::test(start_paused = true)]
async fn an_import_looks_uploads_waits_and_finds_the_new_script_by_its_exact_name() {
    let service = Service::new(&[UNKNOWN, PENDING, NOT_YET, DONE]).edited(|looked| {
        let before = [(OLD, "Inbound"), ("a1", "Inbound 2"), ("a2", "inbound")];
        let new = [("a3", "Inbound copy"), (NEW, "Inbound"), ("a4", "INBOUND")];
        reply(200, scripts(&if looked == 1 { before.to_vec() } else { [before, new].concat() }))
    });
    let transport = service.transport();
    let imported = agent(&transport).import(&file(), &ImportScript::default()).await.unwrap();
    assert_eq!((imported.script_id().unwrap().as_str(), imported.why_unknown()), (NEW, None));
    assert_eq!((imported.upload_id, imported.status.message.as_deref()), (upload_id(), Some("done")));
    let calls = transport.calls();
    let paths: Vec<_> = calls.iter().map(|seen| seen.url.split('?').next().unwrap().to_owned()).collect();
    let (status, edited) = (format!("{HERE}/api/v2/scripts/uploads/up-1/status"), format!("{HERE}/api/v2/scripts"));
    let upload = format!("{UPLOADS}/uploads/v2/scripter");
    let published = format!("{edited}/published");
    assert_eq!(paths, [&edited, &published, &upload, &status, &status, &status, &status, &edited].map(String::clone));
    assert!(calls[7].url.contains("name=Inbound") && calls[3].url.ends_with("longPoll=true"));
    // A pause between polls, as a service that does not hold them would be asked without end.
    for pair in calls[3..7].windows(2) {
        assert!((2.0..2.1).contains(&(pair[1].at - pair[0].at).as_secs_f64()));
    }
}

#[tokio::test(start_paused = true)]
async fn what_bore_the_name_before_the_upload_is_never_the_new_script() {
    // Never listed: asked for until the time is over, and then none.
    for before in [vec![OLD], vec![OLD, "0d000000-0000-4000-8000-000000000002"], vec![]] {
        let listed: Vec<_> = before.iter().map(|id| (*id, "Inbound")).collect();
        let listed = scripts(&listed);
        let transport = Service::new(&[DONE]).edited(move |_| reply(200, listed.clone())).transport();
        let imported = agent(&transport).import(&file(), &within(60)).await.unwrap();
        assert_eq!((imported.script_id(), imported.candidates.len()), (None, 0));
        assert!(imported.why_unknown().unwrap().contains("\"Inbound\""), "{:?}", imported.why_unknown());
        assert!((50..=60).contains(&transport.calls().last().unwrap().at.as_secs()));
    }
    // The organisation's default scripts, one that was published only, and that of the file itself, listed late.
    let of_file: ScriptFile = format!(r#"{{"id":"{OLD}","name":"Inbound"}}"#).parse().unwrap();
    for old in [DefaultScript::Inbound.id_str(), DefaultScript::Outbound.id_str(), OLD, ID] {
        let service = Service::new(&[DONE])
            .edited(move |looked| reply(200, if looked == 1 { scripts(&[]) } else { scripts(&[(old, "Inbound")]) }))
            .published(|| reply(200, scripts(&[(ID, "Inbound")])));
        let imported = agent(&service.transport()).import(&of_file, &within(30)).await.unwrap();
        assert_eq!((imported.script_id(), imported.candidates.len()), (None, 0), "{old}");
    }
}

#[tokio::test(start_paused = true)]
async fn several_new_scripts_of_the_name_are_no_script_id_and_all_named() {
    let service = Service::new(&[DONE]).edited(|looked| match looked {
        1 => reply(200, scripts(&[(OLD, "Inbound")])),
        _ => reply(200, scripts(&[(NEW, "Inbound"), (OLD, "Inbound"), ("twin", "Inbound")])),
    });
    let imported = agent(&service.transport()).import(&file(), &ImportScript::default()).await.unwrap();
    assert_eq!((imported.script_id(), &imported.upload_id), (None, &upload_id()));
    let candidates: Vec<_> = imported.candidates.iter().map(|id| id.as_str()).collect();
    assert_eq!(candidates, [NEW, "twin"]);
    assert!(imported.why_unknown().unwrap().contains("2 new scripts"));
}

/// The receipt of the first cannot be read, and its script is listed before the second's.
#[tokio::test(start_paused = true)]
async fn an_upload_of_which_it_is_not_known_whether_it_was_taken_may_still_be_listed() {
    let began = tokio::time::Instant::now();
    let service = Service::new(&[DONE]).edited(move |looked| match (looked, began.elapsed().as_secs()) {
        (1 | 2, _) => reply(200, scripts(&[])),
        (_, 0..20) => reply(200, scripts(&[("another", "Inbound")])),
        _ => reply(200, scripts(&[("another", "Inbound"), (NEW, "Inbound")])),
    });
    let (uploads, right) = (Arc::new(Mutex::new(0)), service.transport());
    let transport = Scripted::by(move |seen| {
        let mut uploads = uploads.lock().unwrap();
        *uploads += u32::from(seen.url.starts_with(UPLOADS));
        if seen.url.starts_with(UPLOADS) && *uploads == 1 { reply(200, "{}") } else { right.answer(seen) }
    });
    let agent = agent(&transport);
    agent.import(&file(), &within(60)).await.unwrap_err();
    let imported = agent.import(&file(), &within(60)).await.unwrap();
    assert_ne!(imported.script_id().map(|id| id.as_str()), Some("another"));
}

#[tokio::test(start_paused = true)]
async fn a_list_that_fails_costs_the_id_and_not_the_import() {
    let odd = || reply(200, "<html>");
    let refused = || reply(403, r#"{"code":"missing.permissions","message":"You lack scripter:script:view"}"#);
    for (before, after, words) in [
        (odd as fn() -> Reply, None, "before is not known"),
        (refused as fn() -> Reply, None, "scripter:script:view"),
        ((|| Reply::Silence) as fn() -> Reply, None, "before is not known"),
        ((|| reply(200, scripts(&[]))) as fn() -> Reply, Some(refused as fn() -> Reply), "scripter:script:view"),
    ] {
        let service = Service::new(&[DONE]).edited(move |looked| {
            if looked > 1
                && let Some(after) = after
            {
                after()
            } else {
                before()
            }
        });
        let imported = agent(&service.transport()).import(&file(), &within(60)).await.unwrap();
        assert_eq!((imported.script_id(), &imported.upload_id), (None, &upload_id()));
        let why = imported.why_unknown().unwrap();
        assert!(why.contains(words), "{why}");
    }
    // What may pass is asked again; and who may not see what is published does without.
    let service = Service::new(&[DONE]).published(refused).edited(|looked| match looked {
        1 => reply(200, scripts(&[])),
        2..=9 => reply(503, ""),
        _ => reply(200, scripts(&[(NEW, "Inbound")])),
    });
    let imported = agent(&service.transport()).import(&file(), &ImportScript::default()).await.unwrap();
    assert_eq!(imported.script_id().unwrap().as_str(), NEW);
}

/// A list of which the count runs ahead.
fn counted_only() -> Reply {
    reply(200, r#"{"entities":[],"total":1,"pageCount":1}"#)
}

#[tokio::test(start_paused = true)]
async fn a_list_that_stays_odd_is_not_looked_at_for_ever() {
    let transport = Service::new(&[DONE]).edited(|_| counted_only()).transport();
    let imported = agent(&transport).import(&file(), &ImportScript::default()).await.unwrap();
    assert!(imported.why_unknown().unwrap().contains("before is not known"), "{:?}", imported.why_unknown());
    let uploaded = transport.calls().iter().find(|seen| seen.url.starts_with(UPLOADS)).unwrap().at;
    assert!(uploaded.as_secs() < 40, "{uploaded:?}");

    // Nor after the upload.
    let transport = Service::new(&[DONE])
        .edited(|looked| if looked == 1 { reply(200, scripts(&[])) } else { counted_only() })
        .transport();
    let started = Instant::now();
    let imported = agent(&transport).import(&file(), &ImportScript::default()).await.unwrap();
    assert!(imported.why_unknown().unwrap().contains("could not be listed"), "{:?}", imported.why_unknown());
    assert!(started.elapsed().as_secs() < 40, "{:?}", started.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_list_that_is_counted_before_it_is_there_is_looked_at_again() {
    let began = Instant::now();
    let service = Service::new(&[DONE]).edited(move |looked| match (looked, began.elapsed().as_secs()) {
        (1, _) => reply(200, scripts(&[])),
        (_, 0..30) => counted_only(),
        _ => reply(200, scripts(&[(NEW, "Inbound")])),
    });
    let imported = agent(&service.transport()).import(&file(), &within(120)).await.unwrap();
    assert_eq!(imported.script_id().map(ScriptId::as_str), Some(NEW), "{:?}", imported.why_unknown());

    // Before the upload, too, for a quarter of the time.
    for (seconds, found) in [(10, Some(NEW)), (100, None)] {
        let (began, uploaded) = (Instant::now(), Arc::new(Mutex::new(false)));
        let seen = Arc::clone(&uploaded);
        let right = Service::new(&[DONE])
            .edited(move |_| match (*seen.lock().unwrap(), began.elapsed().as_secs() < seconds) {
                (false, true) => counted_only(),
                (false, false) => reply(200, scripts(&[(OLD, "Inbound")])),
                (true, _) => reply(200, scripts(&[(OLD, "Inbound"), (NEW, "Inbound")])),
            })
            .transport();
        let transport = Scripted::by(move |seen| {
            *uploaded.lock().unwrap() |= seen.url.starts_with(UPLOADS);
            right.answer(seen)
        });
        let imported = agent(&transport).import(&file(), &within(120)).await.unwrap();
        assert_eq!(imported.script_id().map(ScriptId::as_str), found, "{:?}", imported.why_unknown());
        let uploaded = transport.calls().iter().find(|seen| seen.url.starts_with(UPLOADS)).unwrap().at;
        assert!(uploaded.as_secs() <= 31, "{uploaded:?}");
        assert!(imported.script_id().is_some() || imported.why_unknown().unwrap().contains("before is not known"));
    }
}

/// Rows without dates, as some services list them.
#[tokio::test(start_paused = true)]
async fn a_script_that_was_there_under_another_name_or_could_not_be_read_is_not_the_new_one() {
    let before = [
        r#"{"entities":[null],"total":1,"pageCount":1}"#.to_owned(),
        format!(r#"{{"entities":[{{"id":"{OLD}","name":null}}],"total":1,"pageCount":1}}"#),
        scripts(&[(OLD, "Inbound copy")]),
    ];
    for before in before {
        let listed = before.clone();
        let service = Service::new(&[DONE]).edited(move |looked| {
            reply(
                200,
                if looked <= 2 && listed.contains("null]") || looked == 1 {
                    listed.clone()
                } else {
                    scripts(&[(OLD, "Inbound")])
                },
            )
        });
        let imported = agent(&service.transport()).import(&file(), &within(60)).await.unwrap();
        assert_eq!(imported.script_id(), None, "{before}");
        assert!(imported.why_unknown().is_some(), "{before}");
    }
    // Where dates tell, or the status, it is found beside what cannot be read.
    let row = json!({ "id": NEW, "name": "Inbound", "createdDate": chrono::DateTime::<chrono::Utc>::from(UNIX_EPOCH + MIDNIGHT) });
    let after = json!({ "entities": [null, row], "total": 2, "pageCount": 1 }).to_string();
    let right = Service::new(&[DONE])
        .edited(move |looked| match looked {
            1 => reply(200, r#"{"entities":[null],"total":1,"pageCount":1}"#),
            2 => reply(200, r#"{"entities":[]}"#),
            _ => reply(200, after.clone()),
        })
        .transport();
    let date = httpdate::fmt_http_date(UNIX_EPOCH + MIDNIGHT);
    let transport = Scripted::by(move |seen| right.answer(seen).with("date", date.clone()));
    let imported = agent(&transport).import(&file(), &within(60)).await.unwrap();
    assert_eq!(imported.script_id().map(ScriptId::as_str), Some(NEW), "{:?}", imported.why_unknown());
}

/// It takes the name while another import looks for a new script of it.
#[tokio::test(start_paused = true)]
async fn a_script_that_is_replaced_is_not_another_imports_new_one() {
    let service =
        Service::new(&[DONE]).edited(|looked| reply(200, scripts(if looked == 1 { &[] } else { &[(OLD, "Inbound")] })));
    let agent = agent(&service.transport());
    let replaces = ImportScript { replace: OLD.parse().ok(), ..ImportScript::default() };
    let (file, makes) = (file(), within(60));
    let (new, replaced) = tokio::join!(agent.import(&file, &makes), agent.import(&file, &replaces));
    assert_eq!(replaced.unwrap().script_id().map(ScriptId::as_str), Some(OLD));
    let new = new.unwrap();
    assert_eq!((new.script_id(), new.candidates.len()), (None, 0), "{new:?}");
}

#[tokio::test(start_paused = true)]
async fn the_script_that_is_replaced_keeps_its_id_and_is_not_looked_for() {
    let transport = Service::new(&[DONE]).transport();
    let options = ImportScript { name: Some("Renamed".into()), replace: Some(id()), ..ImportScript::default() };
    let imported = agent(&transport).import(&file(), &options).await.unwrap();
    assert_eq!(imported.script_id(), Some(&id()));
    assert_eq!(transport.calls().len(), 2);
    assert_eq!(parts(&transport.calls()[0])[1].1, "Renamed");
}

/// An organisation that lists what was imported later, on the paused clock.
#[derive(Default)]
struct Organisation {
    /// On the test's clock; all its own times count from there.
    midnight: Duration,
    lag: Duration,
    /// Whether the service tells dates, and the script's address in the status.
    dated: bool,
    tells: bool,
    /// When what is there was made, and is listed.
    made: Vec<(String, Duration, Duration)>,
    defaults: bool,
}

const NAME: &str = "Default Inbound Script";
/// An older script's id.
fn old(nth: u64) -> String {
    format!("0d{nth:06x}-0000-4000-8000-000000000000")
}

const MIDNIGHT: Duration = Duration::from_secs(1_800_000_000);

impl Organisation {
    fn answer(&mut self, seen: &Seen) -> Reply {
        let path = seen.url.split('?').next().unwrap();
        let now = seen.at.saturating_sub(self.midnight);
        let date = |at: Duration| chrono::DateTime::<chrono::Utc>::from(UNIX_EPOCH + MIDNIGHT + at);
        if seen.is_login() {
            return common::token("the-access-token");
        }
        let body = if path.ends_with("/uploads/v2/scripter") {
            let script = format!("{:08x}-0000-4000-8000-000000000000", self.made.len());
            self.made.push((script.clone(), now, now + self.lag));
            json!({ "correlationId": script })
        } else if let Some(rest) = path.strip_suffix("/status") {
            let script = rest.rsplit('/').next().unwrap();
            let url = self.tells.then(|| format!("https://api.example/api/v2/scripts/{script}"));
            json!({ "succeeded": true, "url": url })
        } else {
            let published = path.ends_with("/published");
            let listed = self.made.iter().filter(|(_, _, listed)| *listed <= now && !published);
            let mut entities: Vec<Value> = listed
                .map(|(id, made, _)| {
                    let made = self.dated.then(|| date(*made));
                    json!({ "id": id, "name": NAME, "createdDate": made })
                })
                .collect();
            if self.defaults && (published || now >= self.lag) {
                entities.push(json!({ "id": DefaultScript::Inbound.id_str(), "name": NAME }));
            }
            json!({ "entities": entities, "pageCount": 1, "total": entities.len() })
        };
        let answer = reply(200, body.to_string());
        if self.dated { answer.with("date", httpdate::fmt_http_date(SystemTime::from(date(now)))) } else { answer }
    }
}

/// Two processes before one organisation after another.
struct World {
    organisation: Arc<Mutex<Organisation>>,
    clients: [Client; 2],
    began: Instant,
}

/// What an import came to, and the script that it is in truth.
struct Outcome {
    found: Option<ScriptId>,
    truth: ScriptId,
    why: Option<String>,
}

impl World {
    fn new() -> Self {
        let organisation = Arc::new(Mutex::new(Organisation::default()));
        let answering = Arc::clone(&organisation);
        let transport = Scripted::by(move |seen| answering.lock().unwrap().answer(seen));
        let clients = [transport.client(), transport.client()];
        Self { organisation, clients, began: Instant::now() }
    }

    /// Imports that start so long after midnight each, by one client or by both in turn.
    async fn imports(&self, organisation: Organisation, clients: usize, starts: &[Duration]) -> Vec<Outcome> {
        // What imports before are remembered for is over by then.
        sleep(Duration::from_secs(60)).await;
        *self.organisation.lock().unwrap() = Organisation { midnight: self.began.elapsed(), ..organisation };
        let file: ScriptFile = json!({ "name": NAME }).to_string().parse().unwrap();
        let imports = starts.iter().enumerate().map(|(nth, starts)| {
            let agent = self.clients[nth % clients].agent(credentials());
            let file = &file;
            async move {
                sleep(*starts).await;
                let imported = agent.import(file, &ImportScript::default()).await.unwrap();
                let truth = imported.upload_id.as_str().parse().unwrap();
                let why = imported.why_unknown().map(str::to_owned);
                Outcome { found: imported.script_id().cloned(), truth, why }
            }
        });
        join_all(imports).await
    }
}

#[tokio::test(start_paused = true)]
async fn the_id_is_the_right_one_or_none_however_late_it_is_listed() {
    let seconds = Duration::from_secs;
    let world = World::new();
    let mut told = HashMap::<bool, usize>::new();
    for lag in [0, 1, 8, 17, 30].map(seconds) {
        for older in 0..4 {
            for (defaults, dated, tells) in (0..8).map(|n| (n & 1 > 0, n & 2 > 0, n & 4 > 0)) {
                for starts in [&[0][..], &[0, 0], &[0, 2], &[0, 11], &[0, 0, 5]] {
                    let made = (0..older).map(|nth| (old(nth), Duration::ZERO, Duration::ZERO)).collect();
                    let organisation = Organisation { lag, dated, tells, made, defaults, ..Organisation::default() };
                    let starts: Vec<_> = starts.iter().map(|start| seconds(60 + start)).collect();
                    for Outcome { found, truth, why } in world.imports(organisation, 1, &starts).await {
                        let what = format!("{lag:?} {older} {defaults} {dated} {tells} {starts:?} {why:?}");
                        assert!(found.as_ref().is_none_or(|found| *found == truth), "{found:?} for {truth:?}: {what}");
                        assert_eq!(found.is_none(), why.is_some(), "{what}");
                        // Where it is told, or nobody else imports, it is found.
                        assert!(found.is_some() || (starts.len() > 1 && !tells), "{what}");
                        *told.entry(found.is_some()).or_default() += 1;
                    }
                }
            }
        }
    }
    assert!(told[&true] > told[&false], "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn by_the_services_dates_what_was_made_before_is_older_though_it_was_not_listed_then() {
    let seconds = Duration::from_secs;
    let world = World::new();
    for lag in [0, 2, 9, 30].map(seconds) {
        // Made 20 s before the upload, and listed up to 30 s after it was made.
        let made = (0..3).map(|nth| (old(nth), seconds(40), seconds(60 + 5 * nth))).collect();
        let organisation = Organisation { lag, dated: true, made, defaults: true, ..Organisation::default() };
        let [outcome] = world.imports(organisation, 1, &[seconds(60)]).await.try_into().ok().unwrap();
        assert_eq!(outcome.found, Some(outcome.truth), "{lag:?} {:?}", outcome.why);

        // Two processes that know nothing of each other.
        for apart in [0, 1, 4, 7, 15] {
            let organisation = Organisation { lag, dated: true, ..Organisation::default() };
            let starts = [seconds(60), seconds(60 + apart)];
            for Outcome { found, truth, why } in world.imports(organisation, 2, &starts).await {
                assert!(found.is_none_or(|found| found == truth), "{lag:?} {apart} {why:?}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn where_the_service_tells_no_time_what_was_made_a_day_before_by_ours_is_older_too() {
    let now = chrono::DateTime::<chrono::Utc>::from(SystemTime::now());
    let dated = |id: &str, days: i64, key: &str| json!({ "id": id, "name": "Inbound", key: now - chrono::TimeDelta::days(days) });
    let listed = |scripts: Vec<Value>| {
        reply(200, json!({ "entities": scripts, "pageCount": 1, "total": scripts.len() }).to_string())
    };
    for (days, key, found) in [
        (2, "createdDate", None),
        (2_000, "createdDate", None),
        (30, "publishedDate", None),
        (0, "createdDate", Some(OLD)),
    ] {
        // It was there before, and is listed only afterwards.
        let late = dated(OLD, days, key);
        let service =
            Service::new(&[DONE]).edited(move |looked| listed(if looked == 1 { vec![] } else { vec![late.clone()] }));
        let imported = agent(&service.transport()).import(&file(), &within(90)).await.unwrap();
        assert_eq!(imported.script_id().map(ScriptId::as_str), found, "{days} {key}");

        let both = vec![dated(OLD, days, key), dated(NEW, 0, "createdDate")];
        let service =
            Service::new(&[DONE]).edited(move |looked| listed(if looked == 1 { vec![] } else { both.clone() }));
        let imported = agent(&service.transport()).import(&file(), &within(90)).await.unwrap();
        assert_eq!(
            imported.script_id().map(ScriptId::as_str),
            if found.is_none() { Some(NEW) } else { None },
            "{days} {key}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn while_nothing_says_that_it_failed_an_import_is_under_way_until_the_time_is_over() {
    for status in [
        "{}",
        r#"{"succeeded":false}"#,
        r#"{"succeeded":null,"message":null,"errors":null}"#,
        r#"{"succeeded":false,"message":"","errors":[]}"#,
        r#"{"succeeded":false,"message":" ","errors":{}}"#,
        r#"{"succeeded":false,"errors":[null,"",{}]}"#,
        r#"{"succeeded":"false"}"#,
        r#"{"status":"RUNNING"}"#,
        r#"{"message":"Received"}"#,
        r#"{"succeeded":false,"message":"IN_PROGRESS"}"#,
        r#"{"succeeded":false,"message":"Pending"}"#,
        r#"{"succeeded":false,"message":"The script is still being processed"}"#,
        r#"{"succeeded":false,"message":"queued"}"#,
        r#"{"succeeded":false,"message":"RETRYING"}"#,
        r#"{"succeeded":false,"message":"not finished yet"}"#,
        r#"{"succeeded":false,"message":"importing (40 %)"}"#,
        r#"{"succeeded":false,"errors":0,"error":false,"message":{},"code":202}"#,
        r#"{"succeeded":false,"state":"NOT_STARTED","code":"in.progress"}"#,
        r#"{"status":"NO_ERROR"}"#,
        r#"{"state":"RETRYING_AFTER_ERROR"}"#,
        r#"{"status":"CHECKING_ERRORS"}"#,
        r#"{"status":"INDETERMINATE"}"#,
        r#"{"status":"DUPLICATE_CHECK"}"#,
        r#"{"state":"CONFLICTS_RESOLVED"}"#,
        r#"{"succeeded":"no","message":["Import queued"]}"#,
        r#"{"succeeded":false,"message":"INITIATED"}"#,
    ] {
        let mut statuses = vec![(200, status); 20];
        statuses.push(DONE);
        let transport = Service::new(&statuses).transport();
        let imported = agent(&transport).import(&file(), &ImportScript::default()).await.unwrap();
        assert_eq!(imported.script_id().unwrap().as_str(), NEW);

        let transport = Service::new(&[(200, status)]).transport();
        let started = Instant::now();
        let error = agent(&transport).import(&file(), &within(90)).await.unwrap_err();
        assert_eq!((error.kind(), error.upload_id()), (ErrorKind::Timeout, Some(&upload_id())), "{error}");
        assert!((87..=90).contains(&started.elapsed().as_secs()), "{:?}", started.elapsed());
        let text = error.to_string();
        for words in ["up-1", "may still be", "second script"] {
            assert!(text.contains(words), "{text}");
        }
    }
    let transport = Service::new(&[(200, r#"{"succeeded":false,"message":"Step 2: parsing"}"#)]).transport();
    let error = agent(&transport).wait_for_import(&upload_id(), Duration::from_secs(20)).await.unwrap_err();
    assert!(error.to_string().contains("Step 2: parsing"), "{error}");
}

const UNDER_WAY: &[&str] = &[
    "NOT_STARTED",
    "NotReady",
    "not done",
    "Import has not begun",
    "The script isn't ready",
    "Result not available, still importing",
    "STARTING",
    "IN PROCESS",
    "In process.",
    "under way",
    "INITIALIZING",
    "Initialized",
    "PREPARING",
    "prepared",
    "ENQUEUED",
    "QUEUING",
    "in the queue",
    "CREATED",
    "JOB_CREATED",
    "jobStarted",
    "SCANNING",
    "Creating script",
    "Your script is being imported",
    "In progress, 0 errors",
    "Step 3: checking pages (no errors so far)",
    "rendering without errors: 3 of 5",
    "Scanned 3 pages, 0 failed, scanning the next",
    "INITIATED",
    "ACKNOWLEDGED",
    "UPLOAD_COMPLETE",
    "VALIDATED",
    "ACTIVE",
    "ON_HOLD",
    "on-hold",
    "BUSY",
    " Registered. ",
    "uploadComplete",
    "NO_ERRORS_SO_FAR",
    "CHECKING_DUPLICATES",
    "importing skills",
];

const FAILED: &[&str] = &[
    "Import did not complete",
    "no such page",
    "The script isn't being imported",
    "Invalid file, importing was stopped",
    "Missing start page",
    "Nothing to import",
    "Unexpected string",
    "A script of an existing name",
    "Page containing duplicate ids",
    "Script was created with a newer version",
    "Scanning found a malformed page",
    "Error: not ready for publishing",
    "Parsing failed, no errors in page 1",
    "importing: 10 errors",
    "Creating the script was refused",
    "Start page not available",
    "TIMEOUT",
    "TIMED_OUT",
    "timedOut",
    "STOPPED",
    "TERMINATED",
    "KILLED",
    "DUPLICATE",
    "DUPLICATE_NAME",
    "Conflict",
    "ALREADY_EXISTS",
    "UNAUTHORIZED",
    "INSUFFICIENT_PERMISSIONS",
    "PAYLOAD_TOO_LARGE",
    "UNPROCESSABLE_ENTITY",
    "DECLINED",
    "SCHEMA_VIOLATION",
    "NO_START_PAGE",
    "NotSupported",
    "bad.page",
    "page/3",
    "失敗しました",
    "Timeout while importing page 3",
    "importing page 3 was stopped",
    "The importing process was terminated",
];

#[tokio::test(start_paused = true)]
async fn a_message_is_of_work_under_way_unless_it_says_that_it_failed() {
    for message in UNDER_WAY {
        let status = json!({ "succeeded": false, "message": message }).to_string();
        let transport = Service::new(&[(200, status.as_str()), DONE]).transport();
        let waited = agent(&transport).wait_for_import(&upload_id(), Duration::from_secs(60)).await;
        assert!(waited.is_ok(), "{message}: {waited:?}");
    }
    for message in FAILED {
        let status = json!({ "succeeded": false, "message": message }).to_string();
        let transport = Service::new(&[(200, status.as_str()), DONE]).transport();
        let error = agent(&transport).wait_for_import(&upload_id(), Duration::from_secs(60)).await.expect_err(message);
        assert_eq!(error.kind(), ErrorKind::ImportFailed, "{message}: {error}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_import_that_failed_says_at_once_why_and_which_upload_it_was() {
    for (status, words) in [
        (r#"{"succeeded":false,"message":"Invalid file"}"#, vec!["Invalid file"]),
        (r#"{"succeeded":false,"message":"unknown component"}"#, vec!["unknown component"]),
        (r#"{"succeeded":false,"message":"Error while processing page 3"}"#, vec!["page 3"]),
        (r#"{"status":"PROCESSING_FAILED"}"#, vec!["PROCESSING_FAILED"]),
        (r#"{"succeeded":false,"message":"import not allowed"}"#, vec!["not allowed"]),
        (r#"{"succeeded":false,"errors":["no start page"]}"#, vec!["no start page"]),
        (r#"{"succeeded":false,"message":null,"errors":"no start page"}"#, vec!["no start page"]),
        (
            r#"{"succeeded":false,"message":"2 errors","errors":[{"code":"bad.page","message":"page 1"},{"message":"page 2"}]}"#,
            vec!["2 errors", "bad.page", "page 1", "page 2"],
        ),
        (r#"{"errors":[{"where":"page 7"}]}"#, vec!["page 7"]),
        (r#"{"succeeded":null,"errors":{"reason":"page 8","line":2}}"#, vec!["page 8"]),
        (r#"{"succeeded":false,"errors":[[1,"page 9"]]}"#, vec!["page 9"]),
        (r#"{"succeeded":false,"error":"no start page"}"#, vec!["no start page"]),
        (
            r#"{"succeeded":false,"errors":[],"error":{"code":"bad.page","message":"page 1"}}"#,
            vec!["bad.page", "page 1"],
        ),
        (r#"{"succeeded":false,"code":"bad.page"}"#, vec!["bad.page"]),
        (r#"{"succeeded":"False","code":"bad.page","message":"page 2"}"#, vec!["bad.page", "page 2"]),
        (r#"{"succeeded":false,"message":["page 3","page 4"]}"#, vec!["page 3", "page 4"]),
        (r#"{"succeeded":0,"message":{"text":"page 5 is odd"}}"#, vec!["page 5 is odd"]),
        (r#"{"status":"FAILED"}"#, vec!["FAILED"]),
        (r#"{"status":"TIMED_OUT"}"#, vec!["TIMED_OUT"]),
        (r#"{"status":"EXPIRED"}"#, vec!["EXPIRED"]),
        (r#"{"state":"Denied"}"#, vec!["Denied"]),
        (r#"{"succeeded":false,"code":"import.failed","message":"Oversized"}"#, vec!["import.failed", "Oversized"]),
        (r#"{"succeeded":false,"state":"terminated","message":"BUSY"}"#, vec!["terminated"]),
        (r#"{"succeeded":false,"message":"TERMINATED","code":"bad.page"}"#, vec!["TERMINATED", "bad.page"]),
        (r#"{"state":"ImportFailed","error":"page 6"}"#, vec!["page 6"]),
    ] {
        let transport = Service::new(&[(200, status)]).transport();
        let error = agent(&transport).import(&file(), &ImportScript::default()).await.unwrap_err();
        assert_eq!((error.kind(), error.upload_id()), (ErrorKind::ImportFailed, Some(&upload_id())), "{error}");
        assert!(!error.is_retryable() && polls(&transport).len() == 1, "{error}");
        for word in words {
            assert!(error.to_string().contains(word), "{error}");
        }
    }
    let transport = Service::new(&[INVALID]).transport();
    let error = agent(&transport).wait_for_import(&upload_id(), Duration::from_secs(60)).await.unwrap_err();
    assert_eq!(error.message(), Some("Invalid file"));
    let transport = Service::new(&[(
        200,
        r#"{"succeeded":false,"message":"no Bearer the-access-token","errors":["the-access-token"]}"#,
    )]);
    let error = agent(&transport.transport()).wait_for_import(&upload_id(), Duration::from_secs(60)).await.unwrap_err();
    assert!(!format!("{error} {error:?} {:?}", error.body()).contains("the-access-token"), "{error}");
    for succeeded in [json!("True"), json!(1), json!("TRUE"), json!("1")] {
        let status = json!({ "succeeded": succeeded, "code": "ok", "status": "NO_ERROR" }).to_string();
        let transport = Service::new(&[(200, status)]).transport();
        let status = agent(&transport).wait_for_import(&upload_id(), Duration::from_secs(9)).await.unwrap();
        assert_eq!((status.succeeded, status.errors.len()), (Some(true), 0), "{succeeded}");
    }
    // Success is the service's last word, whatever it has to remark.
    let transport =
        Service::new(&[(200, r#"{"succeeded":true,"errors":[{"message":"a page is empty"}]}"#)]).transport();
    let status = agent(&transport).wait_for_import(&upload_id(), Duration::from_secs(60)).await.unwrap();
    assert_eq!(status.errors[0].message(), Some("a page is empty"));
}

#[tokio::test(start_paused = true)]
async fn a_question_for_the_status_that_fails_is_asked_again_where_that_may_pass() {
    let outage = vec![(503, ""); 30];
    for trouble in [vec![(500, "")], outage, vec![(1, "")], vec![(409, "")], vec![(429, "")], vec![(0, "")]] {
        let statuses = [trouble, vec![DONE]].concat();
        let transport = Service::new(&statuses).transport();
        let imported = agent(&transport).import(&file(), &ImportScript::default()).await.unwrap();
        assert_eq!(imported.script_id().unwrap().as_str(), NEW);
    }
    let wordless =
        [(204, ""), (200, ""), (200, "null"), (200, r#""""#), (200, "<html>"), (200, r#"{"code":"x","message":"y"}"#)];
    let transport = Service::new(&[&wordless[..], &[DONE]].concat()).transport();
    let imported = agent(&transport).import(&file(), &ImportScript::default()).await.unwrap();
    assert_eq!(imported.script_id().unwrap().as_str(), NEW);
    let transport = Service::new(&[(200, "<html><title>Maintenance</title>")]).transport();
    let error = agent(&transport).import(&file(), &within(60)).await.unwrap_err();
    assert_eq!((error.kind(), error.upload_id()), (ErrorKind::Timeout, Some(&upload_id())));
    assert!(error.to_string().contains("Maintenance"), "{error}");
    let transport = Service::new(&[(500, r#"{"message":"no database"}"#)]).transport();
    let error = agent(&transport).import(&file(), &within(60)).await.unwrap_err();
    assert_eq!((error.kind(), error.upload_id()), (ErrorKind::Timeout, Some(&upload_id())));
    assert!(error.to_string().contains("no database"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_stays_unknown_or_may_not_be_seen_ends_the_wait() {
    let transport = Service::new(&[UNKNOWN]).transport();
    let error = agent(&transport).import(&file(), &ImportScript::default()).await.unwrap_err();
    assert_eq!((error.kind(), error.upload_id()), (ErrorKind::NotFound, Some(&upload_id())));
    assert!((15..20).contains(&polls(&transport).last().unwrap().at.as_secs()));

    let transport = Service::new(&[(403, r#"{"code":"missing.permissions"}"#)]).transport();
    let error = agent(&transport).import(&file(), &ImportScript::default()).await.unwrap_err();
    assert_eq!((error.kind(), error.upload_id()), (ErrorKind::Forbidden, Some(&upload_id())));
    assert_eq!(polls(&transport).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_poll_that_is_held_too_long_is_not_a_failure() {
    let transport = Service::new(&[(0, ""), DONE]).transport();
    let imported = agent(&transport).import(&file(), &ImportScript::default()).await.unwrap();
    assert_eq!(imported.script_id().unwrap().as_str(), NEW);
    let [first, second] = polls(&transport).try_into().unwrap();
    assert!((60.0..64.0).contains(&(second.at - first.at).as_secs_f64()));
}

#[tokio::test(start_paused = true)]
async fn a_409_after_a_change_is_waited_out_and_one_that_stays_says_so() {
    let conflict = || reply(409, r#"{"message":"The script is just being changed","code":"conflict","status":409}"#);
    let transport = Scripted::replies([conflict(), conflict(), reply(200, json!({ "id": ID }).to_string())]);
    transport.agent().publish(&id(), &PublishScript::default()).await.unwrap();
    let at: Vec<_> = transport.calls().iter().map(|seen| seen.at.as_secs_f64()).collect();
    assert!((2.0..3.0).contains(&(at[1] - at[0])) && (4.0..5.0).contains(&(at[2] - at[1])), "{at:?}");

    let division = "d0000000-0000-4000-8000-000000000001".parse().unwrap();
    for replies in [vec![conflict(), reply(204, "")], vec![conflict(), conflict(), conflict(), reply(204, "")]] {
        Scripted::replies(replies).agent().move_to_division(&id(), &division).await.unwrap();
    }
    Scripted::replies([conflict(), reply(200, "")]).agent().delete(&id()).await.unwrap();
    let told = Scripted::replies([conflict().with("retry-after", "9"), reply(200, "")]);
    told.agent().delete(&id()).await.unwrap();
    assert!(told.calls()[1].at - told.calls()[0].at >= Duration::from_secs(9));

    // As WebDAV's resources and some gateways say it.
    let locked = || reply(423, r#"{"message":"locked by another user"}"#);
    for replies in [vec![locked(), reply(204, "")], vec![conflict(), locked(), reply(204, "")]] {
        Scripted::replies(replies).agent().delete(&id()).await.unwrap();
    }
    let error = Scripted::replies([locked()]).agent().script(&id()).await.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable(), error.attempts()), (ErrorKind::Conflict, true, 1), "{error}");
    assert!(error.to_string().contains("locked by another user"), "{error}");

    let stays = Scripted::by(move |seen| if seen.is_login() { common::token("t0ken") } else { conflict() });
    let error = stays.agent().publish(&id(), &PublishScript::default()).await.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable(), stays.calls().len()), (ErrorKind::Conflict, true, 4));
    let text = error.to_string();
    assert!(text.contains("just being changed") && text.contains("another change is under way"), "{text}");
    // Of an upload it may be the answer to a second one, made on the way: another could make a second script.
    let error = stays.agent().upload(&file(), "Inbound", None).await.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable(), stays.calls().len()), (ErrorKind::Conflict, true, 5));
    // A call without the time for it, or a policy without retries.
    let hasty = stays.agent().with_timeout(Duration::from_secs(1));
    assert_eq!(hasty.delete(&id()).await.unwrap_err().kind(), ErrorKind::Conflict);
    let once = stays.builder().retry(common::once()).build().unwrap().agent(credentials());
    assert_eq!(once.delete(&id()).await.unwrap_err().attempts(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_import_that_failed_has_the_id_of_the_answer_that_says_so() {
    let transport = Scripted::by(|seen| match seen.is_login() {
        true => common::token("the-access-token"),
        false => reply(200, INVALID.1).with("inin-correlation-id", "c-9 of the-access-token"),
    });
    let error = transport.agent().wait_for_import(&upload_id(), Duration::from_secs(60)).await.unwrap_err();
    assert_eq!((error.kind(), error.status()), (ErrorKind::ImportFailed, Some(200)));
    assert!(error.correlation_id().unwrap().starts_with("c-9 of ["), "{error}");
    assert_eq!(error.to_string().matches("Invalid file").count(), 1, "{error}");
}

/// The switches of the simulator, as users test their own code with them.
#[tokio::test(start_paused = true)]
async fn the_simulator_lists_late_imports_slowly_and_refuses_what_has_not_settled() {
    let simulator = Simulator::builder()
        .client_secret(common::SECRET)
        .listing_lag(Duration::from_secs(12))
        .upload_time(Duration::from_secs(25))
        .settling_time(Duration::from_secs(3))
        .in_process()
        .unwrap();
    let region = Region::custom(simulator.url(), simulator.url(), simulator.url()).unwrap();
    let client = Client::builder(region).with_middleware(simulator.transport()).build().unwrap();
    let agent = client.agent(credentials());
    let file: ScriptFile = r#"{"name":"Script 1","pages":[]}"#.parse().unwrap();
    let started = Instant::now();
    let options = ImportScript::default();
    let imports = [agent.import(&file, &options), agent.import(&file, &options)];
    let [first, second] = <[_; 2]>::try_from(join_all(imports).await).unwrap();
    assert!(started.elapsed() >= Duration::from_secs(37));
    let (first, second) = (first.unwrap(), second.unwrap());
    let (first, second) = (first.script_id().unwrap(), second.script_id().unwrap());
    assert_ne!(first, second);

    agent.publish(first, &PublishScript::default()).await.unwrap();
    let changed = Instant::now();
    let hasty = agent.with_timeout(Duration::from_secs(1)).delete(first).await.unwrap_err();
    assert_eq!((hasty.kind(), hasty.code()), (ErrorKind::Conflict, Some("conflict")));
    agent.delete(first).await.unwrap();
    assert!(changed.elapsed() >= Duration::from_secs(3));

    simulator.set_listing_lag(Duration::ZERO);
    simulator.set_upload_time(Duration::ZERO);
    simulator.set_settling_time(Duration::ZERO);
    let imported = agent.import(&file, &ImportScript::default()).await.unwrap();
    agent.publish(imported.script_id().unwrap(), &PublishScript::default()).await.unwrap();
    agent.delete(imported.script_id().unwrap()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_the_service_said_of_an_upload_until_the_time_was_over_is_kept() {
    let refused = [(404, "does not know this upload"), (503, "was not imported within 10 s")];
    for (status, words) in refused {
        let transport = Scripted::by(move |seen| match seen.is_login() {
            true => common::token("t"),
            false => reply(status, r#"{"code":"c","message":"m","status":1}"#).with("inin-correlation-id", "c-4"),
        });
        let agent = transport.agent();
        let error = agent.wait_for_import(&upload_id(), Duration::from_secs(10)).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.status(), error.code()),
            (ErrorKind::Timeout, Some(status), Some("c")),
            "{error}"
        );
        assert_eq!((error.correlation_id(), error.upload_id()), (Some("c-4"), Some(&upload_id())), "{error}");
        assert!(
            error.to_string().contains(words) && error.to_string().contains("wait for this upload again"),
            "{error}"
        );
        assert_eq!(error.to_string().matches(" attempts in ").count(), 1, "one account, and not two: {error}");
    }
}
