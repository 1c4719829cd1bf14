//! Everything the handlers share.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use secrecy::SecretString;
use uuid::Uuid;

use super::fault::Fault;
use super::ids::random_id;
use super::library::Library;
use super::quirk::{ListQuirk, OddToken};
use super::recorded::Log;
use super::refusal::ContextId;
use super::stats::Counters;
use super::sync::lock;
use super::tokens::Tokens;
use super::when::{Memory, Met, Peer, When};

pub(super) struct Service {
    /// Where the simulator is, for links in its answers.
    pub(super) url: String,
    pub(super) client_secret: SecretString,
    /// Of clients that do not have them all.
    pub(super) permissions: HashMap<String, HashSet<String>>,
    pub(super) settings: Mutex<Settings>,
    pub(super) tokens: Mutex<Tokens>,
    // Only through `library()`, so that uploads are never late.
    library: Mutex<Library>,
    pub(super) counters: Arc<Counters>,
    pub(super) log: Mutex<Log>,
    memory: Mutex<Memory>,
    // Two streams, so that the faults of a seed do not depend on how many ids were drawn.
    pub(super) dice: Mutex<fastrand::Rng>,
    ids: Mutex<fastrand::Rng>,
}

/// What can be changed while the simulator runs.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub(super) latency: Duration,
    /// 0: no limit and no headers.
    pub(super) rate_limit: u32,
    pub(super) quota_headers: bool,
    /// 0: no limit.
    pub(super) login_rate_limit: u32,
    pub(super) token_ttl: Duration,
    pub(super) upload_time: Duration,
    pub(super) knee: Option<Knee>,
    pub(super) faults: Vec<(Fault, f64)>,
    pub(super) login_faults: Vec<(Fault, f64)>,
    pub(super) list_quirks: Vec<ListQuirk>,
    pub(super) down: bool,
    pub(super) gzip: bool,
    pub(super) odd_token: Option<OddToken>,
    pub(super) planned: Vec<(When, Fault, f64)>,
    pub(super) one_session: bool,
}

/// Above `in_flight` script requests, further ones are refused with `probability`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Knee {
    pub(super) in_flight: usize,
    pub(super) probability: f64,
}

impl Service {
    pub(super) fn new(
        url: String,
        client_secret: SecretString,
        permissions: HashMap<String, HashSet<String>>,
        settings: Settings,
        library: Library,
        seed: u64,
    ) -> Self {
        Self {
            url,
            client_secret,
            permissions,
            settings: Mutex::new(settings),
            tokens: Mutex::new(Tokens::new()),
            library: Mutex::new(library),
            counters: Arc::default(),
            log: Mutex::default(),
            memory: Mutex::new(Memory::new()),
            dice: Mutex::new(fastrand::Rng::with_seed(seed)),
            ids: Mutex::new(fastrand::Rng::with_seed(!seed)),
        }
    }

    pub(super) fn setting<T>(&self, read: impl FnOnce(&Settings) -> T) -> T {
        read(&lock(&self.settings))
    }

    /// The scripts as they are now.
    pub(super) fn library(&self) -> MutexGuard<'_, Library> {
        let mut library = lock(&self.library);
        library.catch_up();
        library
    }

    pub(super) fn new_context(&self) -> ContextId {
        ContextId(self.new_id().to_string().into())
    }

    pub(super) fn new_id(&self) -> Uuid {
        random_id(&mut lock(&self.ids))
    }

    /// A secret of the length and alphabet of the service's tokens.
    pub(super) fn new_secret(&self) -> String {
        const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let mut ids = lock(&self.ids);
        (0..86).filter_map(|_| ids.choice(ALPHABET).map(|byte| char::from(*byte))).collect()
    }

    /// Of how many nodes there are faults planned, if there are.
    pub(super) fn nodes(&self) -> Option<u32> {
        self.setting(|settings| {
            settings.planned.iter().find_map(|(when, ..)| match when {
                When::Node(_, of) => Some(*of),
                _ => None,
            })
        })
    }

    /// One throw of the dice over all faults.
    pub(super) fn draw_fault(&self, of: impl FnOnce(&Settings) -> &Vec<(Fault, f64)>) -> Option<Fault> {
        let settings = lock(&self.settings);
        let faults = of(&settings);
        if faults.is_empty() {
            return None;
        }
        let mut throw = lock(&self.dice).f64();
        faults.iter().find_map(|(fault, probability)| {
            throw -= probability;
            (throw < 0.0).then_some(*fault)
        })
    }
}

/// A script request that is under way, as planned faults see it.
pub(super) struct Visit {
    service: Arc<Service>,
    met: Met,
}

impl Visit {
    /// None where no fault is planned.
    pub(super) fn begin(service: &Arc<Service>, script: Option<Uuid>, peer: Option<Peer>) -> Option<Self> {
        let planned = service.setting(|settings| settings.planned.clone());
        if planned.is_empty() {
            return None;
        }
        let windows = planned.iter().map(|(when, ..)| match when {
            When::Burst(_, within) => *within,
            _ => Duration::ZERO,
        });
        let longest = windows.max().unwrap_or_default();
        let number = script.and_then(|id| service.library().editable().position(|known| known.id == id));
        let in_flight = service.counters.scripts_in_flight();
        let met = lock(&service.memory).arrived(script, number.map(|at| at + 1), in_flight, peer, longest);
        Some(Self { service: Arc::clone(service), met })
    }

    /// The planned fault that strikes it. To be asked once.
    pub(super) fn fault(&self) -> Option<Fault> {
        let planned = self.service.setting(|settings| settings.planned.clone());
        let mut memory = lock(&self.service.memory);
        planned.into_iter().find_map(|(when, fault, probability)| {
            let strikes = memory.holds(when, &self.met) && lock(&self.service.dice).f64() < probability;
            strikes.then_some(fault)
        })
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        lock(&self.service.memory).left(&self.met);
    }
}
