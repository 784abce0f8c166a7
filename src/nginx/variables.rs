//! The variables with which old configurations name channels, by `set`.
//!
//! [`declare`] makes them changeable and gives them no source, so that `set` accepts them. The
//! rewrite module, a `map` or a named capture then adds a source: that shows whether the
//! configuration uses the variable. Afterwards each gets the source [`not_found`]. `set` needs no
//! source, because it writes its value into the request; but without a source nginx would log a
//! warning for each request to a location that sets only the other variable.
//!
//! Functions that read variables are here as well.

use core::ptr::NonNull;

use ngx::ffi::{
    NGX_ERROR, NGX_HTTP_VAR_CHANGEABLE, NGX_OK, ngx_http_add_variable, ngx_http_complex_value,
    ngx_http_complex_value_t, ngx_http_get_indexed_variable, ngx_http_get_variable_index,
    ngx_http_request_t, ngx_http_variable_t, ngx_http_variable_value_t, ngx_int_t, ngx_str_t,
    ngx_uint_t,
};

use crate::nginx::ffi;
use crate::nginx::log::Level;
use crate::nginx::parse::{Parse, Refused};

/// One of the two variables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Legacy {
    /// For publishers and statistics.
    ChannelId,
    /// For subscribers.
    ChannelsPath,
}

impl Legacy {
    /// Its name, without the dollar sign.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::ChannelId => "push_stream_channel_id",
            Self::ChannelsPath => "push_stream_channels_path",
        }
    }
}

/// The two variables of one configuration.
#[derive(Default)]
pub(crate) struct LegacyVariables {
    channel_id: Option<NonNull<ngx_http_variable_t>>,
    channels_path: Option<NonNull<ngx_http_variable_t>>,
    channel_id_index: Option<usize>,
    channels_path_index: Option<usize>,
}

impl LegacyVariables {
    /// The index of the variable in a request. `None`: nothing in the configuration sets it.
    pub(crate) fn index(&self, which: Legacy) -> Option<usize> {
        match which {
            Legacy::ChannelId => self.channel_id_index,
            Legacy::ChannelsPath => self.channels_path_index,
        }
    }
}

/// Before the first directive: makes `set` accept the names.
pub(super) fn declare(parse: &Parse) -> Result<(), Refused> {
    let channel_id = add(parse, Legacy::ChannelId)?;
    let channels_path = add(parse, Legacy::ChannelsPath)?;
    let variables = &mut parse.main_conf().legacy_variables;
    variables.channel_id = Some(channel_id);
    variables.channels_path = Some(channels_path);
    Ok(())
}

/// After the last directive: finds out which of them the configuration sets.
pub(super) fn resolve(parse: &Parse) -> Result<(), Refused> {
    let variables = &parse.main_conf().legacy_variables;
    let (channel_id, channels_path) = (variables.channel_id, variables.channels_path);
    let channel_id_index = adopt(parse, Legacy::ChannelId, channel_id)?;
    let channels_path_index = adopt(parse, Legacy::ChannelsPath, channels_path)?;
    let variables = &mut parse.main_conf().legacy_variables;
    variables.channel_id_index = channel_id_index;
    variables.channels_path_index = channels_path_index;
    Ok(())
}

/// The value of a directive with variables, for this request; not decoded. A second call may give
/// another value. `None`: memory is short.
///
/// # Safety
///
/// The request is live, and the result is not used after its end.
pub(crate) unsafe fn evaluate<'a>(
    r: NonNull<ngx_http_request_t>,
    value: NonNull<ngx_http_complex_value_t>,
) -> Option<&'a [u8]> {
    let mut text = ngx_str_t::empty();
    // SAFETY: the request is live; the value is part of its configuration, and nginx only reads it.
    let outcome = unsafe { ngx_http_complex_value(r.as_ptr(), value.as_ptr(), &raw mut text) };
    if outcome != NGX_OK as ngx_int_t {
        return None;
    }
    // SAFETY: memory of the request's pool or of its configuration; the caller looks at it no longer.
    Some(unsafe { bytes(text.data, text.len) })
}

/// The value of a variable, not decoded. `None`: it is empty, or not set in this request.
///
/// # Safety
///
/// As for [`evaluate`].
pub(crate) unsafe fn indexed<'a>(r: NonNull<ngx_http_request_t>, index: usize) -> Option<&'a [u8]> {
    // SAFETY: the request is live, and the index is one that its configuration has given out.
    let value = unsafe { ngx_http_get_indexed_variable(r.as_ptr(), index) };
    // SAFETY: null, or the request's own copy of the value.
    let value = unsafe { value.as_ref() }?;
    let found = value.valid() == 1 && value.not_found() == 0 && value.len() > 0;
    // SAFETY: what a variable points to lives as long as the request; the caller looks at it no longer.
    found.then(|| unsafe { bytes(value.data, value.len() as usize) })
}

/// # Safety
///
/// `data` begins `len` bytes that nobody changes as long as the result is used; null if there are none.
unsafe fn bytes<'a>(data: *const u8, len: usize) -> &'a [u8] {
    if len == 0 {
        return &[];
    }
    // SAFETY: see above.
    unsafe { core::slice::from_raw_parts(data, len) }
}

fn add(parse: &Parse, which: Legacy) -> Result<NonNull<ngx_http_variable_t>, Refused> {
    let mut name = ffi::borrowed_str(which.name().as_bytes());
    // SAFETY: nginx copies the name; the parser's state is valid for the callback.
    let variable = unsafe {
        ngx_http_add_variable(parse.as_ptr(), &raw mut name, NGX_HTTP_VAR_CHANGEABLE as ngx_uint_t)
    };
    NonNull::new(variable).ok_or(Refused::Logged)
}

/// The index of a variable that has a source. `None`: it has none.
fn adopt(
    parse: &Parse,
    which: Legacy,
    variable: Option<NonNull<ngx_http_variable_t>>,
) -> Result<Option<usize>, Refused> {
    let Some(mut variable) = variable else { return Ok(None) };
    // SAFETY: nginx made it in `declare`, and it lives as long as the configuration is read.
    let variable = unsafe { variable.as_mut() };
    let Some(_source) = variable.get_handler else {
        variable.get_handler = Some(not_found);
        return Ok(None);
    };
    let mut name = ffi::borrowed_str(which.name().as_bytes());
    // SAFETY: nginx copies the name; the parser's state is valid for the callback.
    let index = unsafe { ngx_http_get_variable_index(parse.as_ptr(), &raw mut name) };
    let Ok(index) = usize::try_from(index) else {
        debug_assert_eq!(index, NGX_ERROR as ngx_int_t);
        parse.say(Level::Emerg, format_args!("no index for variable \"{}\"", which.name()));
        return Err(Refused::Logged);
    };
    // `set` leaves the index of the variable as the data of its source. A `map` or `geo` leaves a
    // pointer there, and its source must stay.
    if variable.data == index {
        variable.get_handler = Some(not_found);
    }
    Ok(Some(index))
}

/// nginx calls this when a request reads a variable that is not set in it.
///
/// # Safety
///
/// `value` is the request's slot for the variable.
unsafe extern "C" fn not_found(
    _r: *mut ngx_http_request_t,
    value: *mut ngx_http_variable_value_t,
    _data: usize,
) -> ngx_int_t {
    // SAFETY: see above.
    if let Some(value) = unsafe { value.as_mut() } {
        value.set_not_found(1);
    }
    NGX_OK as ngx_int_t
}
