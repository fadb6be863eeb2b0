//! Decides which addresses belong to the public internet.
//!
//! Knows the registries of special addresses. Does not know grants, names or sockets.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// IPv4 addresses that are not public: IANA's registry of special addresses without the few public services in it,
/// and the one public address that leads to a service of the cloud provider in every virtual machine of Azure.
const NOT_PUBLIC_V4: [(Ipv4Addr, u32); 16] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8),        // this network, unspecified
    (Ipv4Addr::new(10, 0, 0, 0), 8),       // private
    (Ipv4Addr::new(100, 64, 0, 0), 10),    // shared addresses for carrier-grade NAT
    (Ipv4Addr::new(127, 0, 0, 0), 8),      // loopback
    (Ipv4Addr::new(168, 63, 129, 16), 32), // Azure's host agent
    (Ipv4Addr::new(169, 254, 0, 0), 16),   // link-local; metadata of most clouds
    (Ipv4Addr::new(172, 16, 0, 0), 12),    // private
    (Ipv4Addr::new(192, 0, 0, 0), 24),     // protocol assignments
    (Ipv4Addr::new(192, 0, 2, 0), 24),     // documentation
    (Ipv4Addr::new(192, 88, 99, 0), 24),   // 6to4 relays, withdrawn
    (Ipv4Addr::new(192, 168, 0, 0), 16),   // private
    (Ipv4Addr::new(198, 18, 0, 0), 15),    // benchmarks
    (Ipv4Addr::new(198, 51, 100, 0), 24),  // documentation
    (Ipv4Addr::new(203, 0, 113, 0), 24),   // documentation
    (Ipv4Addr::new(224, 0, 0, 0), 4),      // multicast
    (Ipv4Addr::new(240, 0, 0, 0), 4),      // reserved, broadcast
];

/// The only range of IPv6 from which public addresses are assigned. Loopback, link-local, unique local and multicast
/// addresses, among others, are outside it.
const GLOBAL_V6: (Ipv6Addr, u32) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);

/// Ranges within `GLOBAL_V6` that are not public.
const NOT_PUBLIC_V6: [(Ipv6Addr, u32); 3] = [
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23), // protocol assignments: Teredo, benchmarks, ORCHID
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32), // documentation
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20), // documentation
];

const IPV4_MAPPED: (Ipv6Addr, u32) = (Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), 96);
const NAT64: (Ipv6Addr, u32) = (Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96);
const SIX_TO_FOUR: (Ipv6Addr, u32) = (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16);

/// Returns whether `address` is reachable from the public internet. For an IPv6 address that contains an IPv4 address,
/// the IPv4 address decides.
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => match embedded_v4(address) {
            Some(embedded) => is_public_v4(embedded),
            None => within_v6(address, GLOBAL_V6) && !NOT_PUBLIC_V6.iter().any(|range| within_v6(address, *range)),
        },
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    !NOT_PUBLIC_V4.iter().any(|(start, length)| (address.to_bits() ^ start.to_bits()) >> (32 - length) == 0)
}

/// Returns the IPv4 address to which packets for `address` are finally sent.
fn embedded_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let low_bits = |bits: u128| Ipv4Addr::from_bits(bits as u32);
    if within_v6(address, IPV4_MAPPED) || within_v6(address, NAT64) {
        return Some(low_bits(address.to_bits()));
    }
    within_v6(address, SIX_TO_FOUR).then(|| low_bits(address.to_bits() >> 80))
}

fn within_v6(address: Ipv6Addr, (start, length): (Ipv6Addr, u32)) -> bool {
    (address.to_bits() ^ start.to_bits()) >> (128 - length) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(addresses: &str, public: bool) {
        for text in addresses.split_whitespace() {
            let address: IpAddr = text.parse().unwrap_or_else(|_| panic!("{text} is not an address"));
            assert_eq!(is_public(address), public, "{text}");
        }
    }

    #[test]
    fn the_first_and_the_last_address_of_each_special_ipv4_range_are_not_public() {
        check(
            "0.0.0.0 0.255.255.255 10.0.0.0 10.255.255.255 100.64.0.0 100.100.100.200 100.127.255.255 127.0.0.0 \
             127.0.0.1 127.255.255.255 168.63.129.16 169.254.0.0 169.254.169.254 169.254.255.255 172.16.0.0 \
             172.31.255.255 192.0.0.0 192.0.0.255 192.0.2.0 192.0.2.255 192.88.99.0 192.88.99.255 192.168.0.0 \
             192.168.255.255 198.18.0.0 198.19.255.255 198.51.100.0 198.51.100.255 203.0.113.0 203.0.113.255 \
             224.0.0.0 239.255.255.255 240.0.0.0 255.255.255.254 255.255.255.255",
            false,
        );
    }

    #[test]
    fn the_neighbours_of_each_special_ipv4_range_are_public() {
        check(
            "1.0.0.0 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.0 168.63.129.15 \
             168.63.129.17 169.253.255.255 169.255.0.0 172.15.255.255 172.32.0.0 191.255.255.255 192.0.1.0 \
             192.0.1.255 192.0.3.0 192.88.98.255 192.88.100.0 192.167.255.255 192.169.0.0 198.17.255.255 \
             198.20.0.0 198.51.99.255 198.51.101.0 203.0.112.255 203.0.114.0 223.255.255.255",
            true,
        );
    }

    #[test]
    fn special_ipv6_addresses_are_not_public() {
        check(
            ":: ::1 ::2 ::7f00:1 100:: 100::ffff 64:ff9b:1::1 1fff:ffff:: 2001:: 2001:0:7f00:1:: 2001:2::1 \
             2001:10::1 2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff 2001:db8:: \
             2001:db8:ffff:ffff:ffff:ffff:ffff:ffff 3fff:: 3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff 4000:: \
             5f00::1 fc00:: fd00:ec2::254 fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff fe80:: fe80::1 \
             febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff fec0::1 ff00:: ff02::1 \
             ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
            false,
        );
    }

    #[test]
    fn the_neighbours_of_special_ipv6_ranges_are_public() {
        check(
            "2000:: 2000:ffff:ffff:ffff:ffff:ffff:ffff:ffff 2001:200:: 2001:4860:4860::8888 \
             2001:db7:ffff:ffff:ffff:ffff:ffff:ffff 2001:db9:: 2003:: 3ffe:ffff:ffff:ffff:ffff:ffff:ffff:ffff \
             3fff:1000:: 3fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
            true,
        );
    }

    #[test]
    fn an_ipv6_address_that_contains_an_ipv4_address_is_public_if_the_ipv4_address_is() {
        check(
            "::ffff:127.0.0.1 ::ffff:10.0.0.1 ::ffff:169.254.169.254 ::ffff:255.255.255.255 64:ff9b::127.0.0.1 \
             64:ff9b::192.168.0.1 2002:7f00:1:: 2002:a00:1::1 2002:a9fe:a9fe::1 \
             2002:c0a8:ffff:ffff:ffff:ffff:ffff:ffff",
            false,
        );
        check("::ffff:1.1.1.1 ::ffff:128.0.0.0 64:ff9b::8.8.8.8 2002:101:101::1 2002:8000::", true);
        // These prefixes differ in one bit from the ones that contain an IPv4 address.
        check("::fffe:1.1.1.1 64:ff9a::8.8.8.8 64:ff9b::1:8.8.8.8", false);
    }
}
