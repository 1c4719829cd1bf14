//! Which requests are sent: arms that differ in one thing, in blocks that hold all of them in an order drawn anew, so
//! that what changes with the clock is not taken for what differs between arms.

use std::time::Duration;

use super::judge::Asked;
use super::sample::Arm;

/// Over own tokens no more is asked of one in a minute than this, unless the plan does: the documented quota is 300.
pub(crate) const PER_TOKEN: u32 = 220;
/// A few at once.
const FEW: usize = 8;
/// The waves together have so many requests a second on average, whatever their size.
const WAVE_RATE: f64 = 250.0;
/// With so many requests the arms have the sizes that the statistics want.
const ENOUGH: f64 = 6_000.0;
/// Blocks that have shown nothing are so many when it is enough.
pub(crate) const QUIET: u32 = 3;
pub(crate) const MOST_BLOCKS: u32 = 24;

/// One request to send.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Order {
    pub(crate) token: u32,
    pub(crate) id: u32,
    pub(crate) address: u32,
    pub(crate) new_connection: bool,
}

/// Requests of one arm: so many workers take them one after the other.
#[derive(Clone, Debug)]
pub(crate) struct Cell {
    pub(crate) arm: Arm,
    pub(crate) workers: usize,
    /// Starts are so far apart at least.
    pub(crate) every: Duration,
    /// What is waited for after the last answer.
    pub(crate) then: Duration,
    pub(crate) orders: Vec<Order>,
}

/// What there is to vary.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Means {
    /// Tokens of agents.
    pub(crate) tokens: u32,
    /// The one that all share.
    pub(crate) shared_token: u32,
    /// Of these, the first ones are those the user asks for.
    pub(crate) ids: u32,
    pub(crate) addresses: u32,
    /// Requests, all together.
    pub(crate) budget: usize,
}

pub(crate) struct Design {
    means: Means,
    asked: Asked,
    /// Of the sizes that the statistics want, what budget and quotas allow.
    scale: f64,
    /// As many at once as are asked for, or as the budget allows.
    most_at_once: usize,
    rng: fastrand::Rng,
    block: u32,
    turn: u32,
    cold: u32,
}

impl Design {
    pub(crate) fn new(means: Means, asked: &Asked, seed: u64) -> Self {
        let rng = fastrand::Rng::with_seed(seed);
        let within_quotas = means.tokens.saturating_mul(PER_TOKEN * QUIET) as usize;
        let scale = (means.budget.min(within_quotas) as f64 / ENOUGH).min(1.0);
        Self { means, asked: asked.clone(), scale, most_at_once: 1, rng, block: 0, turn: 0, cold: 0 }
    }

    fn token(&mut self) -> u32 {
        self.turn = self.turn.wrapping_add(1);
        self.turn % self.means.tokens.max(1)
    }

    /// An id that was asked for before.
    fn warm(&mut self) -> u32 {
        let known = self.cold.clamp(1, self.means.ids.max(1));
        self.rng.u32(0..known)
    }

    /// As in the user's run.
    fn as_asked(&mut self) -> Order {
        let token = if self.asked.shared { self.means.shared_token } else { self.token() };
        let known = self.cold.min(self.asked.ids).max(1);
        Order { token, id: self.rng.u32(0..known), address: 0, new_connection: false }
    }

    fn cell(&self, arm: Arm, workers: usize, every: f64, orders: Vec<Order>) -> Cell {
        Cell { arm, workers, every: Duration::from_secs_f64(every), then: Duration::from_millis(15), orders }
    }

    /// A few requests one at a time: whether there is anything to experiment with.
    pub(crate) fn probe(&mut self, count: usize) -> Cell {
        self.cold = self.cold.max((self.means.ids / 4).clamp(1, 4));
        let orders = (0..count)
            .map(|_| {
                let (token, id) = (self.token(), self.warm());
                Order { token, id, address: 0, new_connection: false }
            })
            .collect();
        self.cell(Arm::Probe, 1, 0.05, orders)
    }

    /// All arms once, in an order of chance. `latency` is what a single request takes, in seconds.
    pub(crate) fn block(&mut self, latency: f64) -> Vec<Cell> {
        let scale = self.scale;
        self.most_at_once = self.asked.most_at_once(latency).min((self.means.budget / 8).max(2));
        let sized = |n: f64| ((n * scale) as usize).max(5);
        // One at a time is slow where answers are.
        let single = sized((3.0 / latency.max(1e-3)).clamp(8.0, 20.0));
        let few = FEW.min(self.most_at_once);
        let kept_by_one = |token, id| Order { token, id, address: 0, new_connection: false };
        let mut cells = vec![self.cold_ids()];

        // Always the same agent: of it is asked most in a minute.
        let orders = (0..single).map(|_| kept_by_one(0, self.warm())).collect();
        cells.push(self.cell(Arm::Alone, 1, 0.0, orders));
        let orders =
            (0..single).map(|_| Order { new_connection: true, ..kept_by_one(self.token(), self.warm()) }).collect();
        cells.push(self.cell(Arm::NewConnection, 1, 0.0, orders));
        if self.means.addresses > 1 {
            let address = 1 + self.block % (self.means.addresses - 1);
            let orders = (0..single).map(|_| Order { address, ..kept_by_one(self.token(), self.warm()) }).collect();
            cells.push(self.cell(Arm::OtherAddress, 1, 0.0, orders));
        }
        let shared = self.means.shared_token;
        // Without one to spare it would be the agent's own.
        if shared >= self.means.tokens {
            let orders = (0..sized(70.0)).map(|_| kept_by_one(shared, self.warm())).collect();
            cells.push(self.cell(Arm::SharedToken, few.min(4), 0.0, orders));
        }
        let orders = (0..sized(30.0)).map(|_| kept_by_one(self.token(), self.warm())).collect();
        cells.push(self.cell(Arm::OwnTokens, few.min(4), 0.0, orders));
        self.by_ids(few, &mut cells);
        self.by_rate(&mut cells, sized(120.0));
        self.waves(latency, &mut cells);
        self.rng.shuffle(&mut cells);
        self.block += 1;
        cells
    }

    /// Ids that were not asked for before, some in each block.
    fn cold_ids(&mut self) -> Cell {
        let more = self.means.ids.div_ceil(4).clamp(2, 12);
        let ids: Vec<u32> = (0..self.means.ids).skip(self.cold as usize).take(more as usize).collect();
        self.cold = (self.cold + more).min(self.means.ids);
        let mut orders = Vec::new();
        // Each once, and then once more: a first request, and one that differs from it in nothing else.
        for id in ids.iter().chain(&ids) {
            orders.push(Order { token: self.token(), id: *id, address: 0, new_connection: false });
        }
        self.cell(Arm::Alone, 1, 0.0, orders)
    }

    /// As many at once for one id, and for one each.
    fn by_ids(&mut self, few: usize, cells: &mut Vec<Cell>) {
        if self.means.ids < 2 || few < 2 {
            return;
        }
        for _ in 0..2 {
            let one = self.warm();
            let orders = (0..few).map(|_| Order { token: self.token(), id: one, address: 0, new_connection: false });
            let orders = orders.collect();
            cells.push(self.cell(Arm::OneId, few, 0.0, orders));
            let each = self.cold.clamp(1, self.means.ids);
            let first = self.rng.u32(0..each);
            let orders = (0..few.min(each as usize)).map(|i| {
                let id = (first + u32::try_from(i).unwrap_or_default()) % each;
                Order { token: self.token(), id, address: 0, new_connection: false }
            });
            let orders = orders.collect();
            cells.push(self.cell(Arm::EachId, few, 0.0, orders));
        }
    }

    /// As many at once, at a high rate and at a low one.
    fn by_rate(&mut self, cells: &mut Vec<Cell>, count: usize) {
        let workers = (self.most_at_once / 4).clamp(1, 32);
        let fast = (0..count).map(|_| self.as_asked()).collect();
        cells.push(self.cell(Arm::Fast, workers, 0.0, fast));
        let slow = (0..count / 5).map(|_| self.as_asked()).collect();
        cells.push(self.cell(Arm::Slow, workers, 0.06, slow));
    }

    /// More and more at once, at the same rate; all of them with their starts spread; and on new connections.
    fn waves(&mut self, latency: f64, cells: &mut Vec<Cell>) {
        let most = self.most_at_once;
        if most < 4 {
            return;
        }
        let mut sizes = vec![most / 8, most / 4, most / 2, most];
        sizes.retain(|size| *size >= 2);
        for size in sizes {
            let orders = (0..size).map(|_| self.as_asked()).collect();
            let mut cell = self.cell(Arm::Wave, size, 0.0, orders);
            cell.then = Duration::from_secs_f64((size as f64 / WAVE_RATE).min(2.0));
            cells.push(cell);
        }
        let orders = (0..most).map(|_| self.as_asked()).collect();
        cells.push(self.cell(Arm::Poured, most, (latency * 1.2 / most as f64).min(0.05), orders));
        let orders: Vec<Order> =
            (0..(most / 6).max(2)).map(|_| Order { new_connection: true, ..self.as_asked() }).collect();
        cells.push(self.cell(Arm::NewWave, orders.len(), 0.0, orders));
    }
}
