//! The service of a world: answers each request as the world says, with the luck of one run.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use fastrand::Rng;
use tokio::time::{Instant, sleep};

use crate::world::{How, Limit, Of, Route, Told, What, World};

/// What a request is, as far as the service looks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    pub(crate) client: usize,
    pub(crate) agent: usize,
    pub(crate) route: Route,
    pub(crate) script: usize,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) retry_after: Option<u64>,
    /// Allowed, used, and seconds until the window ends.
    pub(crate) window: Option<(u32, u32, u64)>,
    pub(crate) definition: bool,
}

/// The connection was reset.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reset;

pub(crate) struct Service {
    world: Arc<World>,
    began: Instant,
    state: Mutex<State>,
}

struct State {
    luck: Rng,
    in_flight: usize,
    requests: u64,
    failed: u64,
    windows: HashMap<(usize, usize, usize), Window>,
}

#[derive(Clone, Copy)]
struct Window {
    opened: Instant,
    used: u32,
}

/// What becomes of a request, decided as it arrives.
struct Fate {
    takes: Duration,
    ends: Result<Answer, How>,
}

impl Service {
    pub(crate) fn new(world: Arc<World>, luck: u64) -> Self {
        let state = State { luck: Rng::with_seed(luck), in_flight: 0, requests: 0, failed: 0, windows: HashMap::new() };
        Self { world, began: Instant::now(), state: Mutex::new(state) }
    }

    /// Requests, and how many of them were not answered 2xx.
    pub(crate) fn counts(&self) -> (u64, u64) {
        let state = self.lock();
        (state.requests, state.failed)
    }

    pub(crate) async fn answer(&self, asked: Asked) -> Result<Answer, Reset> {
        let fate = self.fate(asked);
        let _here = InFlight(self);
        sleep(fate.takes).await;
        match fate.ends {
            Ok(answer) => Ok(answer),
            Err(How::Hang) => std::future::pending().await,
            Err(_) => Err(Reset),
        }
    }

    fn fate(&self, asked: Asked) -> Fate {
        let mut state = self.lock();
        state.in_flight += 1;
        state.requests += 1;
        let fate = state.fate(&self.world, self.began, asked);
        if !matches!(&fate.ends, Ok(answer) if answer.status == 200) {
            state.failed += 1;
        }
        fate
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

struct InFlight<'a>(&'a Service);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.lock().in_flight -= 1;
    }
}

impl State {
    fn fate(&mut self, world: &World, began: Instant, asked: Asked) -> Fate {
        let now = Instant::now();
        let (mut window, mut refused) = (None, None);
        for (number, limit) in world.limits.iter().enumerate() {
            match self.count(limit, number, asked, now) {
                Ok(shown) => window = shown.or(window),
                Err(answer) => refused = Some(answer),
            }
        }
        let takes = world.latency.draw(&mut self.luck);
        if let Some(answer) = refused {
            return Fate { takes: takes.min(QUICK), ends: Ok(answer) };
        }
        let mut fate = Fate { takes, ends: Ok(Answer { status: 200, window, ..Answer::default() }) };
        let load = self.in_flight + world.foreign;
        for trouble in &world.troubles {
            let at = now - began;
            if (trouble.from..trouble.until).contains(&at) && trouble.route.is_none_or(|route| route == asked.route) {
                self.strike(&trouble.what, asked, load, &mut fate);
            }
        }
        fate
    }

    /// Counts the request against a limit: what its window shows, or the refusal.
    fn count(
        &mut self,
        limit: &Limit,
        number: usize,
        asked: Asked,
        now: Instant,
    ) -> Result<Option<(u32, u32, u64)>, Answer> {
        let whose = match limit.of {
            Of::Token => (number, asked.client, asked.agent),
            Of::Operation(route) if route == asked.route => (number, asked.client, asked.agent),
            Of::Operation(_) => return Ok(None),
            Of::Client => (number, asked.client, 0),
            Of::User => (number, 0, 0),
        };
        let window = self.windows.entry(whose).or_insert(Window { opened: now, used: 0 });
        if now - window.opened >= limit.window {
            *window = Window { opened: now, used: 0 };
        }
        let left = (window.opened + limit.window - now).as_secs_f64().ceil() as u64;
        let refused = window.used >= limit.allowed;
        window.used += u32::from(!refused);
        let shown = (limit.told == Told::Headers).then_some((limit.allowed, window.used, left));
        if !refused {
            return Ok(shown);
        }
        let retry_after = (limit.told != Told::Nothing).then_some(left);
        Err(Answer { status: 429, retry_after, window: shown, ..Answer::default() })
    }

    fn strike(&mut self, what: &What, asked: Asked, load: usize, fate: &mut Fate) {
        match *what {
            What::Errors { share, how } => self.fail(share, how, fate),
            What::Slow { factor } => fate.takes = fate.takes.mul_f64(factor),
            What::Brownout { share, factor, how } => {
                fate.takes = fate.takes.mul_f64(factor);
                let takes = fate.takes;
                self.fail(share, how, fate);
                // What fails is no faster.
                fate.takes = takes;
            }
            What::Outage { how } => self.fail(1.0, how, fate),
            What::Knee { level, share, how } if load > level => self.fail(share, how, fate),
            What::SlowKnee { level } if load > level => {
                fate.takes = fate.takes.mul_f64(load as f64 / level as f64);
            }
            What::Broken { from, until, how } if (from..until).contains(&asked.script) => self.fail(1.0, how, fate),
            What::Knee { .. } | What::SlowKnee { .. } | What::Broken { .. } => {}
        }
    }

    fn fail(&mut self, share: f64, how: How, fate: &mut Fate) {
        if self.luck.f64() >= share {
            return;
        }
        fate.takes = fate.takes.min(QUICK);
        fate.ends = match how {
            How::Definition => Ok(Answer { status: 400, definition: true, ..Answer::default() }),
            How::Status(status) => Ok(Answer { status, ..Answer::default() }),
            How::Reset | How::Hang => Err(how),
        };
    }
}

/// A refusal takes no work.
const QUICK: Duration = Duration::from_millis(20);
