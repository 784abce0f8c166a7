//! What a worker does when no request asks for it: start, deliver, write, sweep, say goodbye.
//!
//! ```text
//!   init_master   the zone's image, wake descriptors
//!   start         a seat in the zone, the hub, timers
//!      wake, delivery event ─► a bounded batch of news at a time
//!      flush, due           ─► what waits is written, pings, ends
//!      every 4 s ─► full tick    every 5 s once it has published ─► messages only
//!   on_exiting    goodbye to subscribers, seat given up; or stop, if the end comes at once
//! ```

use core::mem;
use core::ptr::NonNull;
use std::io;

use ngx::ffi::{
    ngx_core_conf_t, ngx_core_module, ngx_cycle_t, ngx_event_t, ngx_last_process, ngx_process_slot,
};

use crate::hub::{Hub, Tick};
use crate::nginx::config::MainConf;
use crate::nginx::event::Event;
use crate::nginx::mapping::Mapping;
use crate::nginx::subscriber;
use crate::nginx::worker::{self, Events, MESSAGES_TICK_MSEC, Worker};
use crate::nginx::zone::{self, Failed};
use crate::nginx::{clock, faults, ffi, log, refusals, wake};
use crate::session::departure::{Cut, Reason};
use crate::session::link::Host;
use crate::store::{self, Store};

/// Between two full ticks; statistics show the rhythm.
const FULL_TICK_MSEC: usize = 4000;
/// Descriptors made at the first start: enough for most reloads to come with more workers.
const WAKE_SLOTS_MIN: usize = 64;
/// Slots that nginx has at most, `NGX_MAX_PROCESSES`.
const SLOTS_MAX: usize = 1024;
/// The cache manager and the cache loader take slots too.
const HELPERS: usize = 2;
/// Slots of subscribers that get their goodbye before other connections have a turn.
const GOODBYES_MAX: usize = 500;

/// In the master, or the only process, for each accepted configuration in which we are used.
///
/// nginx ends the master if this fails, so only a first start may: at a reload there are workers
/// that serve, and much else may be in the configuration.
pub(super) fn init_master(cycle: NonNull<ngx_cycle_t>, conf: &MainConf) -> Result<(), Failed> {
    // Here and in all workers, who inherit it.
    store::on_long_wait(report_long_wait);
    let workers = worker_processes(cycle);
    // SAFETY: a static of nginx's: one more than the last slot in use, 0 at the first start.
    let slots_in_use = usize::try_from(unsafe { ngx_last_process }).unwrap_or(0);
    let slots = (slots_in_use + workers + HELPERS).min(SLOTS_MAX);
    let prepared = prepare_wake(slots.max(4 * workers)).and_then(|()| {
        // A reload runs both generations for a while.
        let seats = slots.max(2 * workers + HELPERS).min(SLOTS_MAX);
        zone::prepare(conf, u32::try_from(seats).unwrap_or(u32::MAX), clock::both())
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
pub(super) fn start(conf: &MainConf) {
    if worker::this().is_some() {
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
    let mut hub = Hub::attach(store, std::process::id(), clock::both());
    hub.configure(&rules, clock::both());
    let events = Events {
        delivery: Event::new(on_delivery),
        flush: Event::new(on_flush),
        due: Event::new(on_due),
        goodbye: Event::new(on_goodbye).holding_worker(),
        full_tick: Event::new(on_full_tick),
        full_tick_more: Event::new(on_full_tick_more),
        messages_tick: Event::new(on_messages_tick),
        messages_tick_more: Event::new(on_messages_tick_more),
    };
    let worker = worker::set(Worker::new(hub, memory, rules, events));
    if !wake::listen(slot, wake::Calls { woken: on_woken, exiting: on_exiting }) {
        log::alert!(
            log::cycle_log(),
            "cannot watch the wake descriptor of slot {slot}, messages of other workers wait for \
             a tick"
        );
    }
    worker.events.full_tick.fire_in(FULL_TICK_MSEC);
    worker.after_operation();
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
fn on_exiting() {
    if let Some(worker) = worker::this()
        && !worker.is_leaving.replace(true)
    {
        worker.goodbye_from.set(0);
        go_on_with_goodbye(worker);
    }
}

/// The worker ends now, in an orderly way: whoever has not been told yet is told at once.
pub(super) fn stop() {
    let Some(worker) = worker::this() else { return };
    worker.is_leaving.set(true);
    worker.is_stopping.set(true);
    worker.goodbye_from.set(0);
    // A panic over one subscriber must not keep the seat.
    ffi::guard("stop", (), || go_on_with_goodbye(worker));
    // Again, for what came in while the last requests were served.
    give_up_seat(worker);
    // Those whose last bytes are not written yet end now, with their connections.
    worker.hub().count_rest_as_ended();
    worker.full_zone.report(clock::now());
    refusals::report_rest();
}

/// All subscribers have been told: the statistics list this worker no longer.
fn give_up_seat(worker: &Worker) {
    worker.count(false);
    worker.hub().detach(worker.rules(), clock::both());
    worker.after_operation();
}

/// Ends subscribers, because the worker ends: at once if it cannot wait, else a few at a time.
fn go_on_with_goodbye(worker: &Worker) {
    let is_urgent = worker::is_terminating();
    loop {
        let (tokens, next) = worker.audience.some_from(worker.goodbye_from.get(), GOODBYES_MAX);
        for token in &tokens {
            // A panic over one must not keep the others, and with them the worker, for ever.
            let panicked = ffi::guard("dismiss", true, || {
                faults::point("dismiss");
                worker.audience.dismiss(worker, *token, Reason::Shutdown);
                false
            });
            if panicked {
                ffi::guard("cut", (), || {
                    if !worker.audience.pass_over(worker) {
                        worker.audience.fail(worker, *token);
                    }
                    worker.audience.cut(worker, *token, Cut::Lost);
                });
            }
        }
        let Some(next) = next else { return give_up_seat(worker) };
        worker.goodbye_from.set(next);
        if !is_urgent && !tokens.is_empty() {
            worker.events.goodbye.fire_in(1);
            return;
        }
    }
}

/// Another worker has written to our wake descriptor.
fn on_woken() {
    if let Some(worker) = worker::this() {
        worker.hub().woken();
        worker.events.delivery.post();
    }
}

/// nginx calls this when there is something to deliver.
///
/// # Safety
///
/// None: the event is not looked at.
unsafe extern "C" fn on_delivery(_: *mut ngx_event_t) {
    let Some(worker) = worker::this() else { return };
    worker.is_delivering.set(true);
    // After a panic the hub does not hand out the same news again.
    let more = ffi::guard("on_delivery", false, || worker.deliver_some());
    worker.is_delivering.set(false);
    ffi::guard("on_delivery", (), || {
        worker.wake_others();
        if more || worker.hub().has_news() {
            // Not in this round: the loop has other connections to serve.
            worker.events.delivery.post_next();
        }
    });
}

/// nginx calls this in the round after one that had too much to write.
///
/// # Safety
///
/// None: the event is not looked at.
unsafe extern "C" fn on_flush(_: *mut ngx_event_t) {
    let Some(worker) = worker::this() else { return };
    ffi::guard("on_flush", (), || {
        for token in mem::take(&mut *worker.unwatched.borrow_mut()) {
            subscriber::watch(worker, token);
        }
    });
    worker.serve("on_flush", || worker.audience.go_on(worker));
    ffi::guard("on_flush", (), || worker.count(true));
}

/// nginx calls this when an interval of somebody is over.
///
/// # Safety
///
/// None: the event is not looked at.
unsafe extern "C" fn on_due(_: *mut ngx_event_t) {
    let Some(worker) = worker::this() else { return };
    worker.serve("on_due", || worker.audience.work_off_due(worker, clock::now_msec()));
    ffi::guard("on_due", (), || {
        worker.count(true);
        worker.schedule();
    });
}

/// nginx calls this when an exiting worker has more subscribers to dismiss.
///
/// # Safety
///
/// None: the event is not looked at.
unsafe extern "C" fn on_goodbye(_: *mut ngx_event_t) {
    ffi::guard("on_goodbye", (), || {
        worker::with(go_on_with_goodbye);
    });
}

/// nginx calls this every 4 s of the worker's life.
///
/// # Safety
///
/// None: the event is not looked at.
unsafe extern "C" fn on_full_tick(_: *mut ngx_event_t) {
    ffi::guard("on_full_tick", (), || {
        let Some(worker) = worker::this() else { return };
        worker.events.full_tick.fire_in(FULL_TICK_MSEC);
        worker.full_zone.report(clock::now());
        refusals::report_rest();
        worker.count(true);
        for token in worker.staying.take() {
            worker.leave(token);
        }
        worker.hub().recover_dead(clock::both(), &is_alive);
        // In case that somebody could not wake us (see `wake::wake`).
        on_woken();
        sweep(Tick::Full, worker, worker.events.full_tick_more);
    });
}

/// nginx calls this when a full tick had more to do than one step.
///
/// # Safety
///
/// None: the event is not looked at.
unsafe extern "C" fn on_full_tick_more(_: *mut ngx_event_t) {
    ffi::guard("on_full_tick_more", (), || {
        worker::with(|worker| sweep(Tick::Full, worker, worker.events.full_tick_more));
    });
}

/// nginx calls this every 5 s once the worker has published.
///
/// # Safety
///
/// None: the event is not looked at.
unsafe extern "C" fn on_messages_tick(_: *mut ngx_event_t) {
    ffi::guard("on_messages_tick", (), || {
        let Some(worker) = worker::this() else { return };
        worker.events.messages_tick.fire_in(MESSAGES_TICK_MSEC);
        sweep(Tick::Messages, worker, worker.events.messages_tick_more);
    });
}

/// nginx calls this when a reduced tick had more to do than one step.
///
/// # Safety
///
/// None: the event is not looked at.
unsafe extern "C" fn on_messages_tick_more(_: *mut ngx_event_t) {
    ffi::guard("on_messages_tick_more", (), || {
        worker::with(|worker| sweep(Tick::Messages, worker, worker.events.messages_tick_more));
    });
}

/// One bounded step; the rest is for the next round of the event loop.
fn sweep(tick: Tick, worker: &Worker, more: Event) {
    faults::point("tick");
    let has_more = worker.operate(|hub, rules, now| hub.tick(tick, rules, now));
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
