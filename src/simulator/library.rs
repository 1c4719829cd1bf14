//! The scripts of the organisation: their versions, what is published, uploads under way, downloads on offer.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use serde::Serialize;
use tokio::time::Instant;
use uuid::Uuid;

use super::bounded::Bounded;
use super::document::{File, wall_clock};
use super::ids::{parse_id, random_id};
use super::refusal::Refusal;
use super::samples;

/// The most scripts there can be.
pub(super) const SCRIPTS: usize = 100_000;
const VERSIONS: usize = 50;
const UPLOADS: usize = 10_000;
const PENDING_UPLOADS: usize = 100;
const DOWNLOADS: usize = 1_000;

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Division {
    pub(super) id: Uuid,
    pub(super) name: &'static str,
    pub(super) self_uri: String,
}

#[derive(Clone)]
pub(super) struct Version {
    pub(super) id: Uuid,
    pub(super) name: String,
    pub(super) date: DateTime<Utc>,
    /// The `.script` file, byte for byte.
    pub(super) file: Bytes,
}

pub(super) struct Script {
    pub(super) id: Uuid,
    pub(super) division: Division,
    created: DateTime<Utc>,
    editable: Version,
    // Those before the editable one, the oldest first.
    earlier: VecDeque<Version>,
    published: Option<(Version, DateTime<Utc>)>,
    /// Not in a listing before then.
    listed: Option<Instant>,
    /// Further changes are refused until then.
    settled: Option<Instant>,
}

/// A script at one version, apart from the library.
pub(super) struct Snapshot {
    pub(super) id: Uuid,
    pub(super) division: Division,
    pub(super) created: DateTime<Utc>,
    pub(super) published: Option<DateTime<Utc>>,
    pub(super) version: Version,
    is_published_view: bool,
}

impl Snapshot {
    pub(super) fn uri(&self) -> String {
        let published = if self.is_published_view { "published/" } else { "" };
        format!("/api/v2/scripts/{published}{}", self.id)
    }
}

impl Script {
    pub(super) fn new(id: Uuid, division: Division, created: DateTime<Utc>, editable: Version) -> Self {
        Self { id, division, created, editable, earlier: VecDeque::new(), published: None, listed: None, settled: None }
    }

    pub(super) fn is_listed(&self) -> bool {
        self.listed.is_none_or(|listed| listed <= Instant::now())
    }

    /// Whether it may be changed.
    fn check_settled(&self) -> Result<(), Refusal> {
        match self.settled {
            Some(settled) if settled > Instant::now() => Err(Refusal::conflict()),
            _ => Ok(()),
        }
    }

    pub(super) fn publish_editable(&mut self, date: DateTime<Utc>) {
        self.published = Some((self.editable.clone(), date));
    }

    fn replace(&mut self, version: Version) {
        let before = std::mem::replace(&mut self.editable, version);
        self.earlier.push_back(before);
        if self.earlier.len() > VERSIONS {
            self.earlier.pop_front();
        }
    }

    fn version(&self, id: Uuid) -> Option<&Version> {
        let published = self.published.iter().map(|(version, _)| version);
        let mut all = std::iter::once(&self.editable).chain(published).chain(&self.earlier);
        all.find(|version| version.id == id)
    }

    fn snapshot(&self, version: &Version, is_published_view: bool) -> Snapshot {
        Snapshot {
            id: self.id,
            division: self.division.clone(),
            created: self.created,
            published: self.published.as_ref().map(|(_, date)| *date),
            version: version.clone(),
            is_published_view,
        }
    }

    /// The version that is edited.
    pub(super) fn editable(&self) -> &Version {
        &self.editable
    }

    /// The version that agents are shown.
    pub(super) fn published(&self) -> Option<&Version> {
        self.published.as_ref().map(|(version, _)| version)
    }

    pub(super) fn editable_view(&self) -> Snapshot {
        self.snapshot(&self.editable, false)
    }

    pub(super) fn published_view(&self) -> Option<Snapshot> {
        self.published.as_ref().map(|(version, _)| self.snapshot(version, true))
    }
}

/// A `.script` file on its way in.
pub(super) struct Import {
    pub(super) file: Bytes,
    pub(super) name: Option<String>,
    /// As text: what is wrong with it shows in the status, not in the answer to the upload.
    pub(super) replace: Option<String>,
    pub(super) division: Option<String>,
}

#[derive(Clone)]
pub(super) enum Upload {
    Pending { until: Instant },
    Done { script: Uuid },
    Failed { message: &'static str },
}

pub(super) struct Download {
    pub(super) file: Bytes,
    pub(super) name: String,
}

pub(super) struct Library {
    pub(super) organization: Uuid,
    pub(super) divisions: Vec<Division>,
    // In order of creation, which is the order of a listing that asks for none.
    scripts: BTreeMap<u64, Script>,
    positions: HashMap<Uuid, u64>,
    next_position: u64,
    defaults: Vec<Script>,
    broken: HashSet<Uuid>,
    /// Each with when its status can be asked for.
    uploads: Bounded<(Instant, Upload)>,
    pending: VecDeque<(Instant, String, Import)>,
    pub(super) downloads: Bounded<Download>,
    /// How long the status of an upload is not known.
    pub(super) upload_lag: Duration,
    /// How long an imported script is not listed.
    pub(super) listing_lag: Duration,
    /// How long a script that was changed may not be changed again.
    pub(super) settling_time: Duration,
    rng: fastrand::Rng,
}

impl Library {
    pub(super) fn new(scripts: u32, seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let organization = random_id(&mut rng);
        let divisions: Vec<Division> = ["Home", "Sales", "Support"]
            .map(|name| {
                let id = random_id(&mut rng);
                Division { id, name, self_uri: format!("/api/v2/authorization/divisions/{id}") }
            })
            .into();
        let mut library = Self {
            organization,
            divisions,
            scripts: BTreeMap::new(),
            positions: HashMap::new(),
            next_position: 0,
            defaults: Vec::new(),
            broken: HashSet::new(),
            uploads: Bounded::new(UPLOADS),
            pending: VecDeque::new(),
            downloads: Bounded::new(DOWNLOADS),
            upload_lag: Duration::ZERO,
            listing_lag: Duration::ZERO,
            settling_time: Duration::ZERO,
            rng,
        };
        if let Some(home) = library.divisions.first().cloned() {
            let mut rng = library.rng.fork();
            for index in 0..scripts {
                library.add(samples::script(index, organization, &home, &mut rng));
            }
            library.defaults = samples::defaults(organization, &home, &mut rng);
        }
        library
    }

    fn add(&mut self, script: Script) {
        self.positions.insert(script.id, self.next_position);
        self.scripts.insert(self.next_position, script);
        self.next_position += 1;
    }

    pub(super) fn editable(&self) -> impl Iterator<Item = &Script> {
        self.scripts.values()
    }

    /// The published ones, the organisation's own first.
    pub(super) fn published(&self) -> impl Iterator<Item = &Script> {
        self.scripts.values().chain(&self.defaults).filter(|script| script.published.is_some())
    }

    fn get(&self, id: Uuid) -> Result<&Script, Refusal> {
        if self.broken.contains(&id) {
            return Err(Refusal::invalid_script_definition());
        }
        let own = self.positions.get(&id).and_then(|position| self.scripts.get(position));
        own.ok_or_else(Refusal::not_found)
    }

    fn get_mut(&mut self, id: Uuid) -> Option<&mut Script> {
        self.positions.get(&id).and_then(|position| self.scripts.get_mut(position))
    }

    pub(super) fn find_editable(&self, id: Uuid) -> Result<Snapshot, Refusal> {
        self.get(id).map(Script::editable_view)
    }

    /// The editable version, or the one asked for.
    pub(super) fn find_version(&self, id: Uuid, version: Option<Uuid>) -> Result<Snapshot, Refusal> {
        let script = self.get(id)?;
        let version = match version {
            None => &script.editable,
            Some(version) => script.version(version).ok_or_else(Refusal::not_found)?,
        };
        Ok(script.snapshot(version, false))
    }

    pub(super) fn find_published(&self, id: Uuid) -> Result<Snapshot, Refusal> {
        let default = self.defaults.iter().find(|script| script.id == id);
        let script = default.map_or_else(|| self.get(id), Ok)?;
        script.published_view().ok_or_else(Refusal::not_found)
    }

    pub(super) fn publish(&mut self, id: Uuid, version: Option<Uuid>) -> Result<Snapshot, Refusal> {
        let version = self.find_version(id, version)?.version;
        let settled = Instant::now() + self.settling_time;
        let script = self.get_mut(id).ok_or_else(Refusal::not_found)?;
        script.check_settled()?;
        script.settled = Some(settled);
        script.published = Some((version, wall_clock()));
        script.published_view().ok_or_else(Refusal::not_found)
    }

    pub(super) fn remove(&mut self, id: Uuid) -> Result<(), Refusal> {
        self.get_mut(id).ok_or_else(Refusal::not_found)?.check_settled()?;
        let position = self.positions.remove(&id).ok_or_else(Refusal::not_found)?;
        self.scripts.remove(&position);
        self.broken.remove(&id);
        Ok(())
    }

    pub(super) fn move_to(&mut self, division: Uuid, ids: &[Uuid]) -> Result<(), Refusal> {
        let division = self.divisions.iter().find(|known| known.id == division).ok_or_else(Refusal::not_found)?.clone();
        for id in ids {
            self.get_mut(*id).ok_or_else(Refusal::not_found)?.check_settled()?;
        }
        let settled = Instant::now() + self.settling_time;
        for id in ids {
            if let Some(script) = self.get_mut(*id) {
                script.division = division.clone();
                script.settled = Some(settled);
            }
        }
        Ok(())
    }

    pub(super) fn set_broken(&mut self, id: Uuid, broken: bool) {
        if !broken {
            self.broken.remove(&id);
        } else if self.positions.contains_key(&id) {
            self.broken.insert(id);
        }
    }

    /// Takes a file in; it becomes a script, or a failure, when its time is over.
    pub(super) fn upload(&mut self, id: String, import: Import, takes: Duration) -> Result<(), Refusal> {
        if self.pending.len() >= PENDING_UPLOADS {
            return Err(Refusal::service_unavailable());
        }
        let replaced = import.replace.as_deref().and_then(|id| parse_id(id).ok());
        if let Some(script) = replaced.and_then(|id| self.get_mut(id)) {
            script.check_settled()?;
        }
        let now = Instant::now();
        let until = now + takes;
        self.uploads.insert(id.clone(), (now + self.upload_lag, Upload::Pending { until }));
        self.pending.push_back((until, id, import));
        Ok(())
    }

    pub(super) fn upload_state(&self, id: &str) -> Result<Upload, Refusal> {
        let known = self.uploads.get(id).filter(|(known, _)| *known <= Instant::now());
        known.map(|(_, state)| state.clone()).ok_or_else(Refusal::not_found)
    }

    /// Finishes the uploads whose time is over. To be called before anything is read.
    pub(super) fn catch_up(&mut self) {
        let now = Instant::now();
        while let Some(next) = self.pending.iter().position(|(until, ..)| *until <= now) {
            if let Some((until, upload, import)) = self.pending.remove(next) {
                let state = match self.import(import, until) {
                    Ok(script) => Upload::Done { script },
                    Err(message) => Upload::Failed { message },
                };
                if let Some(upload) = self.uploads.get_mut(&upload) {
                    upload.1 = state;
                }
            }
        }
    }

    fn import(&mut self, import: Import, at: Instant) -> Result<Uuid, &'static str> {
        let file = File::read(&import.file).ok_or("Invalid script definition")?;
        let name = import.name.or(file.name);
        let division = match &import.division {
            None => self.divisions.first(),
            Some(id) => self.divisions.iter().find(|known| parse_id(id).is_ok_and(|id| id == known.id)),
        };
        let division = division.ok_or("Division not found")?.clone();
        let now = wall_clock();
        let (listed, settled) = (at + self.listing_lag, Some(at + self.settling_time));
        let (version, date, file) = (random_id(&mut self.rng), now, import.file);
        if let Some(text) = import.replace {
            let id = parse_id(&text).map_err(|_| "Script to replace not found")?;
            let script = self.get_mut(id).ok_or("Script to replace not found")?;
            let name = name.unwrap_or_else(|| script.editable.name.clone());
            script.replace(Version { id: version, name, date, file });
            script.settled = settled;
            // What was broken was the definition, and this is another.
            self.broken.remove(&id);
            return Ok(id);
        }
        if self.scripts.len() >= SCRIPTS {
            return Err("Too many scripts");
        }
        let id = random_id(&mut self.rng);
        let name = name.ok_or("Script name missing")?;
        let script = Script::new(id, division, now, Version { id: version, name, date, file });
        self.add(Script { listed: Some(listed), settled, ..script });
        Ok(id)
    }
}
