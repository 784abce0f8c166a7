//! One worker's state, and when it does what nobody asked for: deliver, sweep, say goodbye.
//!
//! ```text
//!   init_master   the zone's image, wake descriptors
//!   start         a seat in the zone, the hub, timers
//!      requests ─► operate ─► wakes of others, and our own delivery event
//!      wake, delivery event ─► subscriber::on_news, a bounded batch at a time
//!      every 4 s ─► full tick    every 5 s once it has published ─► messages only
//!   on_exiting    goodbye to subscribers, seat given up; or stop, if the end comes at once
//! ```
//!
//! A worker is single-threaded; its state is reached through [`with`] and [`operate`]. The hub is
//! borrowed for one operation: what the hub calls back must not come here again.

use core::cell::{Cell, RefCell};
use core::ptr::NonNull;
use std::io;
use std::rc::Rc;

use ngx::ffi::{
    ngx_core_conf_t, ngx_core_module, ngx_cycle_t, ngx_event_t, ngx_exiting, ngx_last_process,
    ngx_process_slot, ngx_terminate, ngx_time,
};

use crate::hub::{Hub, Rules, Tick};
use crate::model::Seconds;
use crate::nginx::config::MainConf;
use crate::nginx::event::Event;
use crate::nginx::zone::{self, Mapping};
use crate::nginx::{ffi, log, subscriber, wake};
use crate::store::{self, Store};

/// Between two full ticks; statistics show the rhythm.
const FULL_TICK_MSEC: usize = 4000;
/// Between two reduced ticks of a worker that has published.
const MESSAGES_TICK_MSEC: usize = 5000;
/// Descriptors made at the first start: enough for most reloads to come with more workers.
const WAKE_SLOTS_MIN: usize = 64;
/// Slots that nginx has at most, `NGX_MAX_PROCESSES`.
const SLOTS_MAX: usize = 1024;
/// The cache manager and the cache loader take slots too.
const HELPERS: usize = 2;

/// What one worker has for the length of its life.
pub(crate) struct Worker {
    hub: RefCell<Hub>,
    /// The memory that the hub works in: it stays mapped as long as somebody can come here.
    _memory: Rc<Mapping>,
    rules: Rules,
    /// Runs [`deliver`].
    delivery: Event,
    /// The delivery event is running, and posts itself again if need be.
    is_delivering: Cell<bool>,
    full_tick: Event,
    full_tick_more: Event,
    messages_tick: Event,
    messages_tick_more: Event,
    /// Subscribers get their goodbye, and then the seat is given up.
    is_leaving: Cell<bool>,
    /// There is no next round of the loop.
    is_stopping: Cell<bool>,
    full_zone: FullZone,
}

thread_local! {
    /// Of this worker; none in the master, in nginx's helpers, and in a worker without a seat.
    static WORKER: Cell<Option<&'static Worker>> = const { Cell::new(None) };
}

/// A hook failed, and has said why.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Failed;

impl Worker {
    /// Limits and times of the configuration that this worker serves.
    pub(crate) fn rules(&self) -> &Rules {
        &self.rules
    }

    /// The hub, for reading or for several operations at once; then call [`after_operation`].
    pub(crate) fn hub(&self) -> core::cell::RefMut<'_, Hub> {
        self.hub.borrow_mut()
    }
}

/// Looks at this worker's state; `None` if it has no seat: the request is answered with 500.
pub(crate) fn with<R>(body: impl FnOnce(&'static Worker) -> R) -> Option<R> {
    WORKER.get().map(body)
}

/// Runs one operation of the hub, and then wakes whoever has something to deliver because of it.
pub(crate) fn operate<R>(body: impl FnOnce(&mut Hub, &Rules, Seconds) -> R) -> Option<R> {
    let outcome = with(|worker| body(&mut worker.hub(), &worker.rules, now()));
    after_operation();
    outcome
}

/// Wakes the workers, this one included, that have news since the last operation.
pub(crate) fn after_operation() {
    with(|worker| {
        if wake_others(worker) && !worker.is_delivering.get() {
            worker.delivery.post();
        }
    });
}

/// Does this worker have news itself?
fn wake_others(worker: &Worker) -> bool {
    let (wakes, has_news) = {
        let mut hub = worker.hub();
        (hub.take_wakes(), hub.has_news())
    };
    for seat in wakes {
        wake::wake(seat as usize);
    }
    has_news
}

/// Call when this worker has published: its reduced ticks begin.
pub(crate) fn after_publishing() {
    with(|worker| {
        if !worker.messages_tick.is_timer_set() {
            worker.messages_tick.fire_in(MESSAGES_TICK_MSEC);
        }
    });
}

/// Call when the zone refused something for lack of memory: one line a second says so.
pub(crate) fn report_full_zone() {
    with(|worker| worker.full_zone.refused(now()));
}

/// Whole seconds of nginx's clock.
pub(crate) fn now() -> Seconds {
    ngx_time()
}

/// This worker serves what it has and takes nothing new.
pub(crate) fn is_exiting() -> bool {
    // SAFETY: a static of nginx's, which only this thread writes.
    unsafe { ngx_exiting != 0 }
}

/// This worker ends now, or as soon as it returns to the loop.
pub(crate) fn is_terminating() -> bool {
    // SAFETY: a static of nginx's; signal handlers write to it, and any value will do.
    let is_terminated = unsafe { ngx_terminate != 0 };
    is_terminated || with(|worker| worker.is_stopping.get()).unwrap_or(true)
}

/// In the master, or the only process, for each accepted configuration in which we are used.
///
/// nginx ends the master if this fails, so only a first start may: at a reload there are workers
/// that serve, and much else may be in the configuration.
pub(crate) fn init_master(cycle: NonNull<ngx_cycle_t>, conf: &MainConf) -> Result<(), Failed> {
    // Here and in all workers, who inherit it.
    store::on_long_wait(report_long_wait);
    let workers = worker_processes(cycle);
    // SAFETY: a static of nginx's: one more than the last slot in use, 0 at the first start.
    let slots_in_use = usize::try_from(unsafe { ngx_last_process }).unwrap_or(0);
    let slots = (slots_in_use + workers + HELPERS).min(SLOTS_MAX);
    let prepared = prepare_wake(slots.max(4 * workers)).and_then(|()| {
        // A reload runs both generations for a while.
        let seats = slots.max(2 * workers + HELPERS).min(SLOTS_MAX);
        zone::prepare(conf, u32::try_from(seats).unwrap_or(u32::MAX), now())
    });
    if slots_in_use == 0 { prepared } else { Ok(()) }
}

/// The store calls this when the process has waited for a lock of the zone for seconds.
fn report_long_wait(holder: Option<u32>) {
    let log = log::cycle_log();
    match holder {
        Some(pid) => log::error!(
            log,
            "waiting for process {pid}, which has held a lock of the zone for seconds: was it stopped?"
        ),
        None => log::error!(log, "waiting for a lock of the zone for seconds"),
    }
}

fn prepare_wake(slots: usize) -> Result<(), Failed> {
    wake::prepare(slots.clamp(WAKE_SLOTS_MIN, SLOTS_MAX)).map_err(|error| {
        log::log_at!(log::Level::Emerg, log::cycle_log(), "cannot make wake descriptors: {error}");
        Failed
    })
}

fn worker_processes(cycle: NonNull<ngx_cycle_t>) -> usize {
    // SAFETY: the new cycle, which nginx has just accepted.
    let contexts = unsafe { cycle.as_ref() }.conf_ctx;
    // SAFETY: a static of nginx's, set before any cycle has a configuration.
    let core = unsafe { ngx_core_module.index };
    // SAFETY: one element per module, and this is the core module's.
    let slot = unsafe { *contexts.wrapping_add(core) };
    // SAFETY: the core module has a configuration in every cycle.
    let workers = unsafe { (*slot.cast::<ngx_core_conf_t>()).worker_processes };
    usize::try_from(workers).unwrap_or(1).max(1)
}

/// In each worker, before its first request.
///
/// A worker that cannot take part says so once and answers 500; it must not fail, because the
/// master would start it again at once, for ever.
pub(crate) fn start(conf: &MainConf) {
    if WORKER.get().is_some() {
        return;
    }
    // SAFETY: a static of nginx's; 0 in a single process.
    let slot = usize::try_from(unsafe { ngx_process_slot }).unwrap_or(0);
    let Some(memory) = conf.mapping() else {
        log::alert!(
            log::cycle_log(),
            "the zone has no memory, all requests will be answered with 500"
        );
        return;
    };
    let Some(store) = seat(&memory, slot) else { return };
    let rules = conf.rules();
    let mut hub = Hub::attach(store, std::process::id(), now());
    hub.configure(&rules, now());
    let worker = Box::leak(Box::new(Worker {
        hub: RefCell::new(hub),
        _memory: memory,
        rules,
        delivery: Event::new(on_delivery),
        is_delivering: Cell::new(false),
        full_tick: Event::new(on_full_tick),
        full_tick_more: Event::new(on_full_tick_more),
        messages_tick: Event::new(on_messages_tick),
        messages_tick_more: Event::new(on_messages_tick_more),
        is_leaving: Cell::new(false),
        is_stopping: Cell::new(false),
        full_zone: FullZone::default(),
    }));
    WORKER.set(Some(worker));
    if !wake::listen(slot) {
        log::alert!(
            log::cycle_log(),
            "cannot watch the wake descriptor of slot {slot}, messages of other workers wait for \
             a tick"
        );
    }
    worker.full_tick.fire_in(FULL_TICK_MSEC);
    after_operation();
}

fn seat(memory: &Mapping, slot: usize) -> Option<Store> {
    let log = log::cycle_log();
    let (base, len) = memory.arena();
    let seat = u32::try_from(slot).ok()?;
    // SAFETY: the master has formatted these bytes before it started us; nginx gives a slot to one
    // live process at a time.
    match unsafe { Store::open(base, len, seat) } {
        Ok(store) => Some(store),
        Err(error) => {
            log::alert!(
                log,
                "no seat for slot {slot} in the zone ({error:?}), all requests will be answered \
                 with 500"
            );
            None
        }
    }
}

/// nginx has told this worker to finish what it has: before anything else, subscribers are told.
pub(crate) fn on_exiting() {
    with(|worker| {
        if !worker.is_leaving.replace(true) {
            subscriber::say_goodbye();
        }
    });
}

/// All subscribers have been told: the statistics list this worker no longer.
pub(crate) fn give_up_seat() {
    with(|worker| worker.hub().detach(&worker.rules, now()));
    after_operation();
}

/// The worker ends now, in an orderly way: whoever has not been told yet is told at once.
pub(crate) fn stop() {
    with(|worker| {
        worker.is_leaving.set(true);
        worker.is_stopping.set(true);
        // A panic over one subscriber must not keep the seat.
        ffi::guard("say_goodbye", (), subscriber::say_goodbye);
        // Again, for what came in while the last requests were served.
        give_up_seat();
        worker.full_zone.report(now());
    });
}

/// Another worker has written to our wake descriptor.
pub(crate) fn on_woken() {
    with(|worker| {
        worker.hub().woken();
        worker.delivery.post();
    });
}

/// nginx calls this when there is something to deliver.
///
/// # Safety
///
/// None: the event is not looked at.
unsafe extern "C" fn on_delivery(_: *mut ngx_event_t) {
    with(|worker| {
        worker.is_delivering.set(true);
        // After a panic the hub does not hand out the same news again.
        let more = ffi::guard("on_delivery", false, subscriber::on_news);
        worker.is_delivering.set(false);
        ffi::guard("on_delivery", (), || {
            let has_news = wake_others(worker);
            if more || has_news {
                // Not in this round: the loop has other connections to serve.
                worker.delivery.post_next();
            }
        });
    });
}

/// nginx calls this every 4 s of the worker's life.
///
/// # Safety
///
/// None: the event is not looked at.
unsafe extern "C" fn on_full_tick(_: *mut ngx_event_t) {
    ffi::guard("on_full_tick", (), || {
        with(|worker| {
            worker.full_tick.fire_in(FULL_TICK_MSEC);
            worker.full_zone.report(now());
            worker.hub().recover_dead(now(), &is_alive);
            // In case that somebody could not wake us (see `wake::wake`).
            on_woken();
            sweep(Tick::Full, worker, worker.full_tick_more);
        });
    });
}

/// nginx calls this when a full tick had more to do than one step.
///
/// # Safety
///
/// None: the event is not looked at.
unsafe extern "C" fn on_full_tick_more(_: *mut ngx_event_t) {
    ffi::guard("on_full_tick_more", (), || {
        with(|worker| sweep(Tick::Full, worker, worker.full_tick_more));
    });
}

/// nginx calls this every 5 s once the worker has published.
///
/// # Safety
///
/// None: the event is not looked at.
unsafe extern "C" fn on_messages_tick(_: *mut ngx_event_t) {
    ffi::guard("on_messages_tick", (), || {
        with(|worker| {
            worker.messages_tick.fire_in(MESSAGES_TICK_MSEC);
            sweep(Tick::Messages, worker, worker.messages_tick_more);
        });
    });
}

/// nginx calls this when a reduced tick had more to do than one step.
///
/// # Safety
///
/// None: the event is not looked at.
unsafe extern "C" fn on_messages_tick_more(_: *mut ngx_event_t) {
    ffi::guard("on_messages_tick_more", (), || {
        with(|worker| sweep(Tick::Messages, worker, worker.messages_tick_more));
    });
}

/// One bounded step; the rest is for the next round of the event loop.
fn sweep(tick: Tick, worker: &Worker, more: Event) {
    let has_more = operate(|hub, rules, now| hub.tick(tick, rules, now)).unwrap_or(false);
    if has_more && !worker.is_leaving.get() {
        more.post_next();
    }
}

fn is_alive(pid: u32) -> bool {
    let Ok(pid) = libc::pid_t::try_from(pid) else { return false };
    // SAFETY: takes two numbers; signal 0 is only a question.
    let answer = unsafe { libc::kill(pid, 0) };
    answer == 0 || io::Error::last_os_error().raw_os_error() != Some(libc::ESRCH)
}

/// Sums up what the zone had no room for: one line at once, then one a second.
#[derive(Debug, Default)]
struct FullZone {
    refused: Cell<u64>,
    reported_at: Cell<Seconds>,
}

impl FullZone {
    fn refused(&self, now: Seconds) {
        self.refused.set(self.refused.get() + 1);
        self.report(now);
    }

    fn report(&self, now: Seconds) {
        if self.refused.get() == 0 || now == self.reported_at.get() {
            return;
        }
        self.reported_at.set(now);
        match self.refused.take() {
            1 => log::error!(log::cycle_log(), "the zone is full, 1 request was refused"),
            n => log::error!(log::cycle_log(), "the zone is full, {n} requests were refused"),
        }
    }
}
