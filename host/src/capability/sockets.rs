//! `wasi:sockets`: counts the TCP sockets of a guest. wasmtime's implementation does everything else.

use std::sync::Arc;

use wasmtime::component::{HasData, Linker, Resource, ResourceType};
use wasmtime_wasi::p2::bindings::sockets::network::{self, ErrorCode, IpAddressFamily};
use wasmtime_wasi::p2::bindings::sockets::tcp_create_socket;
use wasmtime_wasi::p2::{Network, SocketError, SocketResult, TcpSocket};
use wasmtime_wasi::sockets::WasiSocketsCtxView;

use super::descriptors::{GuestDescriptors, OpenDescriptors};

/// The interface that has the resource of a socket, with the version of wasmtime's bindings.
const TCP: &str = "wasi:sockets/tcp@0.2.12";

/// The host side of `wasi:sockets/tcp-create-socket` during one call.
pub struct GuestSockets<'a> {
    pub wasi: WasiSocketsCtxView<'a>,
    pub descriptors: &'a mut OpenDescriptors,
    pub all: &'a GuestDescriptors,
}

struct HasSockets;

impl HasData for HasSockets {
    type Data<'a> = GuestSockets<'a>;
}

/// Replaces the functions with which a guest opens and closes a TCP socket, in a linker that allows it. A guest cannot
/// get one in another way, because it may not listen.
pub fn add_to_linker<T: Send + 'static>(
    linker: &mut Linker<T>,
    sockets: fn(&mut T) -> GuestSockets<'_>,
) -> wasmtime::Result<()> {
    tcp_create_socket::add_to_linker::<T, HasSockets>(linker, sockets)?;
    let close = move |mut store: wasmtime::StoreContextMut<'_, T>, index| sockets(store.data_mut()).close(index);
    linker.instance(TCP)?.resource("tcp-socket", ResourceType::host::<TcpSocket>(), close)
}

impl GuestSockets<'_> {
    fn close(&mut self, index: u32) -> wasmtime::Result<()> {
        self.wasi.table.delete(Resource::<TcpSocket>::new_own(index))?;
        self.descriptors.remove(index);
        Ok(())
    }
}

impl network::Host for GuestSockets<'_> {
    fn convert_error_code(&mut self, error: SocketError) -> wasmtime::Result<ErrorCode> {
        self.wasi.convert_error_code(error)
    }

    fn network_error_code(&mut self, error: Resource<wasmtime::Error>) -> wasmtime::Result<Option<ErrorCode>> {
        self.wasi.network_error_code(error)
    }
}

impl network::HostNetwork for GuestSockets<'_> {
    fn drop(&mut self, network: Resource<Network>) -> wasmtime::Result<()> {
        network::HostNetwork::drop(&mut self.wasi, network)
    }
}

impl tcp_create_socket::Host for GuestSockets<'_> {
    fn create_tcp_socket(&mut self, family: IpAddressFamily) -> SocketResult<Resource<TcpSocket>> {
        let charge = self.descriptors.limits(self.all).try_charge().ok_or(ErrorCode::NewSocketLimit)?;
        let socket = self.wasi.create_tcp_socket(family)?;
        self.descriptors.insert(socket.rep(), Arc::new(charge));
        Ok(socket)
    }
}
