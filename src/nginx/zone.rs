//! The shared memory zone: how large, what it is called, and what is in it after a reload.
//!
//! ```text
//!   zone of nginx (name, owner) ─data─► MainConf ──┐
//!   its successor after a reload ─data─► MainConf ──┴─► Mapping: the memory, where the store lies
//! ```
//!
//! The master maps the memory before the first worker, and keeps it over reloads as long as a zone of
//! this name is ours. nginx's zone says whose the name is and hands the memory on from one
//! configuration to the next; it holds nothing. For in a zone nginx writes a table with an entry for
//! each page, at the start and at each test of a configuration: 24 MB for 4 GB.

use core::ffi::{c_char, c_void};
use core::ptr::NonNull;
use std::rc::Rc;

use ngx::ffi::{
    NGX_ERROR, NGX_OK, ngx_command_t, ngx_conf_t, ngx_cycle_t, ngx_int_t, ngx_pagesize,
    ngx_shared_memory_add, ngx_shm_zone_t,
};

use crate::model::Now;
use crate::nginx::config::MainConf;
use crate::nginx::log::{self, Level};
use crate::nginx::mapping::Mapping;
use crate::nginx::parse::{self, Parse, Refused};
use crate::nginx::{ffi, identity};
use crate::store::Store;

/// Below this many pages there is no room for the store's own tables.
const PAGES_MIN: usize = 32;
/// A hook failed, and has said why.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Failed;

/// Pages of nginx's zone, which holds nothing: the fewest that it makes.
const TOKEN_PAGES: usize = 8;
/// What the zone is called if nobody names it.
const NAME: &[u8] = b"push_stream_module";

/// `push_stream_shared_memory_size <size> [<zone name>];`
///
/// # Safety
///
/// nginx calls it for a directive that it has found in our table.
pub(super) unsafe extern "C" fn set_size(
    cf: *mut ngx_conf_t,
    _command: *mut ngx_command_t,
    _conf: *mut c_void,
) -> *mut c_char {
    // SAFETY: nginx calls us with its parser's state, inside `http`.
    unsafe { parse::setter("zone::set_size", cf, add) }
}

/// Asks nginx for the zone that the directive describes.
pub(super) fn add(parse: &Parse) -> Result<(), Refused> {
    let given = parse.argument(1);
    let name = if given.is_empty() { NAME } else { given };
    let printed = String::from_utf8_lossy(name);
    if parse.main_conf().zone.is_some() {
        parse.say(Level::Emerg, format_args!("duplicate zone \"{printed}\""));
        return Err(Refused::Logged);
    }
    let Some(mut size) = size_of_argument(parse) else {
        parse.say(
            Level::Warn,
            format_args!(
                "The push_stream_shared_memory_size value must be at least {}KiB",
                PAGES_MIN * page_size() / 1024
            ),
        );
        return Err(Refused::Logged);
    };
    if let Some(mapped) = size_before_reload(parse, name)
        && mapped != size
    {
        parse.say(
            Level::Warn,
            format_args!(
                "Cannot change memory area size without restart, ignoring change on zone: {printed}"
            ),
        );
        size = mapped;
    }
    let mut name = ffi::borrowed_str(name);
    let token = TOKEN_PAGES * page_size();
    // SAFETY: the name is a word of the configuration, which lives as long as the cycle, or static;
    // nginx reads it only.
    let zone =
        unsafe { ngx_shared_memory_add(parse.as_ptr(), &raw mut name, token, identity::tag()) };
    let Some(zone) = NonNull::new(zone) else { return Err(Refused::Logged) };
    let main = parse.main_conf();
    // SAFETY: nginx has just given it to us; nobody else looks at it while we read.
    let record = unsafe { &mut *zone.as_ptr() };
    record.init = Some(on_init);
    record.data = NonNull::from(&mut *main).as_ptr().cast();
    main.zone = Some(zone);
    main.zone_size = size;
    main.notes.push(format!(
        "Using {}KiB of shared memory for push stream module on zone: {printed}",
        size / 1024
    ));
    Ok(())
}

/// The first word as a size in whole pages; `None` if it is none or too small.
fn size_of_argument(parse: &Parse) -> Option<usize> {
    let size = parse.size_argument()?.checked_next_multiple_of(page_size())?;
    (size >= PAGES_MIN * page_size()).then_some(size)
}

fn page_size() -> usize {
    // SAFETY: a number that nginx sets before it reads any configuration.
    unsafe { ngx_pagesize }
}

/// How large our zone of this name is in the cycle that is being replaced: what is stored in it is
/// worth more than another size.
fn size_before_reload(parse: &Parse, name: &[u8]) -> Option<usize> {
    // SAFETY: the cycle that is being built names the one before it, which is still alive.
    let old: *mut ngx_cycle_t = unsafe { parse.cycle().as_ref() }.old_cycle;
    // SAFETY: as above.
    let old = unsafe { old.as_ref() }?;
    // SAFETY: this list of nginx's holds zones and does not change while we look.
    let mut zones = unsafe { ffi::list_items::<ngx_shm_zone_t>(&old.shared_memory) };
    let zone =
        zones.find(|zone| zone.tag == identity::tag() && zone.shm.name.as_bytes() == name)?;
    // SAFETY: `add` put our settings there, which live as long as their cycle.
    let before = unsafe { zone.data.cast::<MainConf>().as_ref() }?;
    before.mapping().map(|mapping| mapping.arena().1)
}

/// nginx calls this when it has its zone: at the start, and again for each reload.
///
/// # Safety
///
/// `zone` is the record that [`add`] made. `data` is the one of the same zone in the configuration
/// before, which is still alive, or null.
unsafe extern "C" fn on_init(zone: *mut ngx_shm_zone_t, data: *mut c_void) -> ngx_int_t {
    ffi::guard("zone::on_init", NGX_ERROR as ngx_int_t, || {
        // SAFETY: see above; nobody else looks at it during the call.
        let Some(zone) = (unsafe { zone.as_ref() }) else { return NGX_ERROR as ngx_int_t };
        // SAFETY: see above.
        let before = unsafe { data.cast::<MainConf>().as_ref() };
        match take_memory(zone, before.and_then(MainConf::mapping)) {
            Ok(()) => NGX_OK as ngx_int_t,
            Err(Failed) => NGX_ERROR as ngx_int_t,
        }
    })
}

fn take_memory(zone: &ngx_shm_zone_t, before: Option<Rc<Mapping>>) -> Result<(), Failed> {
    // SAFETY: `add` put our settings here, and they live as long as the cycle.
    let main = unsafe { &*zone.data.cast::<MainConf>() };
    let mapping = match before {
        Some(before) => before,
        None => Rc::new(Mapping::new(zone, main.zone_size).ok_or(Failed)?),
    };
    *main.mapping.borrow_mut() = Some(mapping);
    Ok(())
}

/// In the master, for each accepted configuration: makes the store, or makes room in it for as many
/// processes as there can be now.
///
/// Only the first can fail: more workers than there are seats is no reason to lose those that serve.
pub(super) fn prepare(conf: &MainConf, seats: u32, now: Now) -> Result<(), Failed> {
    let (Some(zone), Some(mapping)) = (conf.zone, conf.mapping()) else { return Ok(()) };
    let (base, len) = mapping.arena();
    // SAFETY: the record is the cycle's.
    let zone = unsafe { zone.as_ref() };
    let log = NonNull::new(zone.shm.log).unwrap_or_else(log::cycle_log);
    if !mapping.is_made.get() {
        // SAFETY: the memory is ours, page aligned, mapped for the life of this master and its
        // workers, all zeroes, and no worker has it yet.
        if let Err(reason) = unsafe { Store::create(base, len, seats, random(), life(now), now) } {
            log::write(
                Level::Emerg,
                log,
                format_args!(
                    "push stream: zone \"{}\" cannot hold what {seats} processes need: {reason:?}",
                    printed_name(zone)
                ),
            );
            return Err(Failed);
        }
        mapping.is_made.set(true);
        return Ok(());
    }
    // SAFETY: an earlier configuration of this master has made the store there.
    if let Err(reason) = unsafe { Store::grow_seats(base, len, seats) } {
        log::warning!(
            log,
            "zone \"{}\" has no room for {seats} processes, some may answer 500: {reason:?}",
            printed_name(zone)
        );
    }
    Ok(())
}

/// A key of these makes the places of channels in the store's tables unforeseeable for those who name them.
/// Without randomness it is zero, which works too.
fn random<const LEN: usize>() -> [u8; LEN] {
    let mut bytes = [0; LEN];
    // SAFETY: room for so many bytes.
    unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), LEN, 0) };
    bytes
}

/// Tells this zone from those before it and from those of other servers.
fn life(now: Now) -> u64 {
    match u64::from_ne_bytes(random()) {
        0 => now.wall.cast_unsigned(),
        life => life,
    }
}

fn printed_name(zone: &ngx_shm_zone_t) -> String {
    String::from_utf8_lossy(zone.shm.name.as_bytes()).into_owned()
}
