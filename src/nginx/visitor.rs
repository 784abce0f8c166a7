//! The client of a request, for locations that only some may see: the audit and the metrics.

use core::mem;
use core::net::IpAddr;

use ngx::ffi::{AF_INET, AF_INET6, AF_UNIX, ngx_connection_t, sockaddr_in, sockaddr_in6};

use crate::nginx::request::Request;
use crate::wire::allow::{Allowed, Client};

/// Is the client one of these? `None`: one on this machine?
pub(super) fn may_see(request: &Request, allowed: Option<&[Allowed]>) -> bool {
    client(request).is_some_and(|client| match allowed {
        None => client.is_local(),
        Some(list) => list.iter().any(|allowed| allowed.lets_in(client)),
    })
}

/// The client of the request; `None` if nginx knows it by something that we do not.
fn client(request: &Request) -> Option<Client> {
    let connection: *mut ngx_connection_t = request.fields().connection;
    // SAFETY: a request has a connection as long as it lives.
    let address = unsafe { (*connection).sockaddr };
    // SAFETY: null, or the client's address, as old as the connection.
    let family = i32::from(unsafe { address.as_ref() }?.sa_family);
    if family == AF_UNIX as i32 {
        return Some(Client::Unix);
    }
    if family == AF_INET as i32 {
        // SAFETY: the family says that it is one of these.
        let address = unsafe { &*address.cast::<sockaddr_in>() };
        return Some(Client::Address(IpAddr::from(address.sin_addr.s_addr.to_ne_bytes())));
    }
    if family == AF_INET6 as i32 {
        // SAFETY: as above.
        let address = unsafe { &*address.cast::<sockaddr_in6>() };
        // SAFETY: 16 bytes in the order of the network, whatever the system calls them.
        let bytes = unsafe { mem::transmute_copy::<_, [u8; 16]>(&address.sin6_addr) };
        return Some(Client::Address(IpAddr::from(bytes)));
    }
    None
}
