//! A world: what a service is like, what goes wrong with it, and what is asked of it. Drawn at random from a seed, so that
//! no policy is judged only where its authors expected it to be.

use std::fmt;
use std::time::Duration;

use fastrand::Rng;

/// The operations that are called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Route {
    Script,
    Published,
    Pages,
    Variables,
}

pub(crate) const ROUTES: [Route; 4] = [Route::Script, Route::Published, Route::Pages, Route::Variables];

/// How hard the worlds are to be right about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Band {
    /// One client, one thing that goes wrong.
    Simple,
    /// Several clients, and answers that grow slow under load.
    Several,
    /// Limits in layers, brownouts, foreign load, nearly everything broken, quiet routes; two things at once.
    Hard,
}

pub(crate) const BANDS: [Band; 3] = [Band::Simple, Band::Several, Band::Hard];

#[derive(Clone, Debug)]
pub(crate) struct World {
    pub(crate) seed: u64,
    pub(crate) band: Band,
    pub(crate) clients: usize,
    pub(crate) agents: usize,
    pub(crate) scripts: usize,
    pub(crate) routes: usize,
    pub(crate) latency: Latency,
    pub(crate) troubles: Vec<Trouble>,
    pub(crate) limits: Vec<Limit>,
    /// In flight from others, whom this world does not ask how they fare.
    pub(crate) foreign: usize,
    pub(crate) demand: Demand,
    pub(crate) calls: Vec<Call>,
}

/// Lognormal: half of the answers take no longer than the median.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Latency {
    pub(crate) median: Duration,
    pub(crate) spread: f64,
}

impl Latency {
    pub(crate) fn draw(self, luck: &mut Rng) -> Duration {
        self.median.mul_f64((self.spread * gaussian(luck)).exp()).min(Duration::from_secs(60))
    }
}

fn gaussian(luck: &mut Rng) -> f64 {
    (0..12).map(|_| luck.f64()).sum::<f64>() - 6.0
}

/// Something that goes wrong for a while, on one route or on all.
#[derive(Clone, Debug)]
pub(crate) struct Trouble {
    pub(crate) from: Duration,
    pub(crate) until: Duration,
    pub(crate) route: Option<Route>,
    pub(crate) what: What,
}

#[derive(Clone, Debug)]
pub(crate) enum What {
    /// This share of the answers, whatever the load.
    Errors {
        share: f64,
        how: How,
    },
    Slow {
        factor: f64,
    },
    /// Slower and failing, as real incidents are.
    Brownout {
        share: f64,
        factor: f64,
        how: How,
    },
    Outage {
        how: How,
    },
    /// More than this in flight, and this share of those above it is refused.
    Knee {
        level: usize,
        share: f64,
        how: How,
    },
    /// More than this in flight, and all answers take longer in proportion.
    SlowKnee {
        level: usize,
    },
    /// These scripts fail always. The first are asked for most.
    Broken {
        from: usize,
        until: usize,
        how: How,
    },
}

/// In what form a failure comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    Definition,
    Status(u16),
    Reset,
    Hang,
}

/// So many requests in a window, opened by the first one after the last window ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limit {
    pub(crate) of: Of,
    pub(crate) allowed: u32,
    pub(crate) window: Duration,
    /// What a 429 says, and whether good answers show the window.
    pub(crate) told: Told,
}

/// Whose requests count together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Of {
    Token,
    /// One operation of a token.
    Operation(Route),
    /// All tokens of one client.
    Client,
    /// Everyone.
    User,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// `inin-ratelimit-*` on every answer, `Retry-After` on a 429.
    Headers,
    RetryAfter,
    Nothing,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Demand {
    /// Calls a second, for so long.
    Steady { rate: f64, lasts: Duration },
    /// All at once, so often, so far apart.
    Herds { size: usize, herds: usize, apart: Duration },
    /// Quiet, with busy spells.
    Bursts { rate: f64, burst: f64, lasts: Duration },
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    pub(crate) at: Duration,
    pub(crate) client: usize,
    pub(crate) agent: usize,
    pub(crate) route: Route,
    pub(crate) script: usize,
}

/// No world asks more than this.
const MOST_CALLS: usize = 4_000;

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let band = BANDS[rng.usize(..BANDS.len())];
        let (clients, routes) = match band {
            Band::Simple => (1, rng.usize(1..=2)),
            Band::Several => (rng.usize(2..=4), rng.usize(1..=3)),
            Band::Hard => (rng.usize(1..=3), rng.usize(1..=4)),
        };
        let latency = Latency { median: seconds(log_uniform(&mut rng, 0.01, 2.0)), spread: rng.f64() * 0.8 };
        let demand = Demand::new(&mut rng);
        let ends = demand.lasts().max(Duration::from_secs(2));
        let mut world = Self {
            seed,
            band,
            clients,
            agents: log_uniform(&mut rng, 1.0, 150.0) as usize,
            scripts: log_uniform(&mut rng, 3.0, 150.0) as usize,
            routes,
            latency,
            troubles: Vec::new(),
            limits: Vec::new(),
            foreign: 0,
            demand,
            calls: Vec::new(),
        };
        match band {
            Band::Simple => world.trouble(&mut rng, ends),
            Band::Several => {
                let level = rng.usize(5..=200);
                world.troubles.push(Trouble::always(if rng.bool() {
                    What::SlowKnee { level }
                } else {
                    What::Knee { level, share: 0.2 + rng.f64() * 0.8, how: refusing(&mut rng) }
                }));
                if rng.bool() {
                    world.trouble(&mut rng, ends);
                }
            }
            Band::Hard => world.hardships(&mut rng, ends),
        }
        world.calls = world.demand(&mut rng);
        world
    }

    /// One thing that goes wrong; in some worlds nothing does.
    fn trouble(&mut self, rng: &mut Rng, ends: Duration) {
        let how = failing(rng);
        let what = match rng.u8(..10) {
            0 => return,
            1 | 2 => What::Errors { share: log_uniform(rng, 0.005, 0.3), how },
            3 => What::Slow { factor: log_uniform(rng, 2.0, 50.0) },
            4 => brownout(rng),
            5 => What::Knee { level: rng.usize(5..=300), share: 0.2 + rng.f64() * 0.8, how: refusing(rng) },
            6 => return self.moving_knee(rng, ends),
            7 => broken(rng, self.scripts, 0.01, 0.8),
            8 => What::Outage { how: down(rng) },
            _ => return self.bad_route(rng),
        };
        let always = matches!(what, What::Knee { .. } | What::Broken { .. })
            || matches!(what, What::Errors { .. }) && rng.bool();
        let spell = match what {
            What::Outage { .. } => log_uniform(rng, 0.1, 60.0),
            _ => log_uniform(rng, 2.0, 60.0),
        };
        self.troubles.push(if always { Trouble::always(what) } else { Trouble::spell(rng, ends, spell, what) });
    }

    fn hardships(&mut self, rng: &mut Rng, ends: Duration) {
        for _ in 0..rng.usize(1..=2) {
            match rng.u8(..7) {
                0 => self.limits(rng),
                1 => {
                    let (spell, what) = (log_uniform(rng, 5.0, 60.0), brownout(rng));
                    self.troubles.push(Trouble::spell(rng, ends, spell, what));
                }
                2 => {
                    self.foreign = rng.usize(5..=150);
                    let level = self.foreign + rng.usize(1..=60);
                    let (share, how) = (0.2 + rng.f64() * 0.8, refusing(rng));
                    self.troubles.push(Trouble::always(What::Knee { level, share, how }));
                }
                3 => {
                    let what = broken(rng, self.scripts, 0.5, 0.98);
                    self.troubles.push(Trouble::always(what));
                }
                4 => self.bad_route(rng),
                5 => self.moving_knee(rng, ends),
                _ => self.trouble(rng, ends),
            }
        }
    }

    fn moving_knee(&mut self, rng: &mut Rng, ends: Duration) {
        let (share, how) = (0.2 + rng.f64() * 0.8, refusing(rng));
        let phase = ends / 3;
        for part in 0..3 {
            let what = What::Knee { level: rng.usize(5..=200), share, how };
            let until = if part == 2 { FOREVER } else { phase * (part + 1) };
            self.troubles.push(Trouble { from: phase * part, until, route: None, what });
        }
    }

    fn bad_route(&mut self, rng: &mut Rng) {
        self.routes = self.routes.max(2);
        let how = if rng.u8(..4) == 0 { How::Hang } else { failing(rng) };
        let route = Some(ROUTES[rng.usize(..self.routes)]);
        self.troubles.push(Trouble { route, ..Trouble::always(What::Outage { how }) });
    }

    fn limits(&mut self, rng: &mut Rng) {
        for _ in 0..rng.usize(1..=2) {
            let of = match rng.u8(..4) {
                0 => Of::Token,
                1 => Of::Operation(ROUTES[rng.usize(..self.routes)]),
                2 => Of::Client,
                _ => Of::User,
            };
            let allowed = match of {
                Of::Token => rng.u32(50..=300),
                Of::Operation(_) => rng.u32(20..=100),
                Of::Client | Of::User => rng.u32(300..=3_000),
            };
            // The service promises `Retry-After`; what a gateway says is its own affair.
            let told =
                [Told::Headers, Told::Headers, Told::RetryAfter, Told::RetryAfter, Told::Nothing][rng.usize(..5)];
            let window = Duration::from_secs(if rng.u8(..4) == 0 { 10 } else { 60 });
            self.limits.push(Limit { of, allowed, window, told });
        }
    }

    fn demand(&self, rng: &mut Rng) -> Vec<Call> {
        let mut calls = self.demand.arrivals(rng);
        calls.truncate(MOST_CALLS);
        // Routes are not asked equally: the first most, the last seldom.
        let share = |rng: &mut Rng, of: usize| (rng.f64() * rng.f64() * of as f64) as usize;
        calls
            .into_iter()
            .map(|at| Call {
                at,
                client: rng.usize(..self.clients),
                agent: rng.usize(..self.agents),
                route: ROUTES[share(rng, self.routes)],
                script: share(rng, self.scripts),
            })
            .collect()
    }
}

impl Demand {
    fn new(rng: &mut Rng) -> Self {
        let lasts = seconds(log_uniform(rng, 20.0, 120.0));
        match rng.u8(..4) {
            0 => Self::Herds {
                size: log_uniform(rng, 10.0, 1_500.0) as usize,
                herds: rng.usize(1..=2),
                apart: seconds(log_uniform(rng, 5.0, 60.0)),
            },
            1 => Self::Bursts { rate: log_uniform(rng, 0.2, 20.0), burst: log_uniform(rng, 20.0, 300.0), lasts },
            // Rather few calls for longer than many for a moment.
            _ => {
                let rate = log_uniform(rng, 0.3, 400.0);
                Self::Steady { rate, lasts: lasts.min(seconds(MOST_CALLS as f64 / rate)) }
            }
        }
    }

    fn lasts(self) -> Duration {
        match self {
            Self::Steady { lasts, .. } | Self::Bursts { lasts, .. } => lasts,
            Self::Herds { herds, apart, .. } => apart * herds as u32,
        }
    }

    fn arrivals(self, rng: &mut Rng) -> Vec<Duration> {
        match self {
            Self::Herds { size, herds, apart } => {
                (0..herds).flat_map(|herd| std::iter::repeat_n(apart * herd as u32, size)).collect()
            }
            Self::Steady { rate, lasts } => poisson(rng, lasts, |_| rate),
            Self::Bursts { rate, burst, lasts } => {
                // Two seconds of every ten are busy.
                poisson(rng, lasts, |at| if at.as_secs() % 10 < 2 { burst } else { rate })
            }
        }
    }
}

fn poisson(rng: &mut Rng, lasts: Duration, rate: impl Fn(Duration) -> f64) -> Vec<Duration> {
    let (mut at, mut arrivals) = (Duration::ZERO, Vec::new());
    while arrivals.len() < MOST_CALLS {
        at += seconds((-(1.0 - rng.f64()).ln() / rate(at)).min(10.0));
        if at >= lasts {
            break;
        }
        arrivals.push(at);
    }
    arrivals
}

const FOREVER: Duration = Duration::from_secs(1_000_000);

impl Trouble {
    fn always(what: What) -> Self {
        Self { from: Duration::ZERO, until: FOREVER, route: None, what }
    }

    /// Some time while there is demand.
    fn spell(rng: &mut Rng, ends: Duration, lasts: f64, what: What) -> Self {
        let from = ends.mul_f64(rng.f64() * 0.5);
        Self { from, until: from + seconds(lasts), route: None, what }
    }
}

fn failing(rng: &mut Rng) -> How {
    [How::Status(500), How::Status(503), How::Definition, How::Reset, How::Status(502)][rng.usize(..5)]
}

/// How a service refuses for load.
fn refusing(rng: &mut Rng) -> How {
    [How::Definition, How::Status(503), How::Status(500)][rng.usize(..3)]
}

fn down(rng: &mut Rng) -> How {
    [How::Status(503), How::Status(502), How::Reset, How::Hang][rng.usize(..4)]
}

fn brownout(rng: &mut Rng) -> What {
    let how = [How::Status(503), How::Status(500), How::Reset][rng.usize(..3)];
    What::Brownout { share: 0.05 + rng.f64() * 0.55, factor: log_uniform(rng, 2.0, 20.0), how }
}

/// A share of the scripts, at the end that is asked for most or at the other.
fn broken(rng: &mut Rng, of: usize, least: f64, most: f64) -> What {
    let how = if rng.u8(..4) == 0 { How::Status(500) } else { How::Definition };
    let broken = (log_uniform(rng, least, most) * of as f64).ceil() as usize;
    let from = if rng.bool() { 0 } else { of.saturating_sub(broken) };
    What::Broken { from, until: from + broken, how }
}

fn log_uniform(rng: &mut Rng, from: f64, to: f64) -> f64 {
    (from.ln() + rng.f64() * (to / from).ln()).exp()
}

fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

impl fmt::Display for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?}: {} calls, {:?}; {} clients of {} agents, {} scripts, {} routes; median {:.0?} ± {:.2}",
            self.band,
            self.calls.len(),
            self.demand,
            self.clients,
            self.agents,
            self.scripts,
            self.routes,
            self.latency.median,
            self.latency.spread
        )?;
        if self.foreign > 0 {
            write!(f, "; {} in flight from others", self.foreign)?;
        }
        for trouble in &self.troubles {
            write!(f, "; {:?}", trouble.what)?;
            if let Some(route) = trouble.route {
                write!(f, " on {route:?}")?;
            }
            if trouble.until < FOREVER {
                write!(f, " from {:.1?} to {:.1?}", trouble.from, trouble.until)?;
            }
        }
        for limit in &self.limits {
            write!(f, "; {limit:?}")?;
        }
        Ok(())
    }
}
