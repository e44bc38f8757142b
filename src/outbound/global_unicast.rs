//! Which addresses are out on the internet.
//!
//! What a stranger's domain name leads to may be chosen to reach what only we can reach: this machine, its network, or
//! a cloud's metadata service. So a connection is only made to what IANA's special-purpose registries (RFC 6890, as
//! updated) leave over. Of IPv6 that is 2000::/3 without what is set apart in it, and IPv4 behind a NAT64 (RFC 6052)
//! if it is global there: a network without IPv4 reaches it so. 6to4 and Teredo are refused altogether: nobody serves
//! from them any more, and they can lead to any IPv4 address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Whether the address is global unicast.
pub fn is_global_unicast(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_global_v4(address),
        IpAddr::V6(address) => is_global_v6(address),
    }
}

fn is_global_v4(address: Ipv4Addr) -> bool {
    !REFUSED_V4
        .iter()
        .any(|&(network, prefix)| within_v4(address, network, prefix))
}

fn is_global_v6(address: Ipv6Addr) -> bool {
    let (nat64, nat64_prefix) = NAT64;
    if within_v6(address, nat64, nat64_prefix) {
        let [.., a, b, c, d] = address.octets();
        return is_global_v4(Ipv4Addr::new(a, b, c, d));
    }
    let (global, global_prefix) = GLOBAL_V6;
    within_v6(address, global, global_prefix)
        && !REFUSED_V6
            .iter()
            .any(|&(network, prefix)| within_v6(address, network, prefix))
}

fn within_v4(address: Ipv4Addr, network: Ipv4Addr, prefix: u32) -> bool {
    (address.to_bits() ^ network.to_bits()).leading_zeros() >= prefix
}

fn within_v6(address: Ipv6Addr, network: Ipv6Addr, prefix: u32) -> bool {
    (address.to_bits() ^ network.to_bits()).leading_zeros() >= prefix
}

/// Networks that are not global unicast. `deploy/squid/squid.conf` refuses the same.
const REFUSED_V4: [(Ipv4Addr, u32); 18] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8),       // this network (RFC 791)
    (Ipv4Addr::new(10, 0, 0, 0), 8),      // private (RFC 1918)
    (Ipv4Addr::new(100, 64, 0, 0), 10),   // shared by carriers (RFC 6598)
    (Ipv4Addr::new(127, 0, 0, 0), 8),     // loopback (RFC 1122)
    (Ipv4Addr::new(169, 254, 0, 0), 16),  // link-local (RFC 3927), and clouds' metadata
    (Ipv4Addr::new(172, 16, 0, 0), 12),   // private (RFC 1918)
    (Ipv4Addr::new(192, 0, 0, 0), 24),    // protocol assignments (RFC 6890)
    (Ipv4Addr::new(192, 0, 2, 0), 24),    // documentation (RFC 5737)
    (Ipv4Addr::new(192, 31, 196, 0), 24), // AS112 (RFC 7535)
    (Ipv4Addr::new(192, 52, 193, 0), 24), // AMT (RFC 7450)
    (Ipv4Addr::new(192, 88, 99, 0), 24),  // 6to4 relays (RFC 7526)
    (Ipv4Addr::new(192, 168, 0, 0), 16),  // private (RFC 1918)
    (Ipv4Addr::new(192, 175, 48, 0), 24), // AS112 (RFC 7534)
    (Ipv4Addr::new(198, 18, 0, 0), 15),   // benchmarking (RFC 2544)
    (Ipv4Addr::new(198, 51, 100, 0), 24), // documentation (RFC 5737)
    (Ipv4Addr::new(203, 0, 113, 0), 24),  // documentation (RFC 5737)
    (Ipv4Addr::new(224, 0, 0, 0), 4),     // multicast (RFC 5771)
    (Ipv4Addr::new(240, 0, 0, 0), 4),     // reserved (RFC 1112), and broadcast
];

/// All unicast that IANA has given out (RFC 4291 §2.4). Outside lie `::`, `::1`, addresses of IPv4 in IPv6, unique
/// local (fc00::/7), link-local (fe80::/10), site-local (fec0::/10) and multicast (ff00::/8).
const GLOBAL_V6: (Ipv6Addr, u32) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);

/// IPv4 behind a translator (RFC 6052). The one for local use, 64:ff9b:1::/48, is not global.
const NAT64: (Ipv6Addr, u32) = (Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96);

/// Networks within [`GLOBAL_V6`] that are not global unicast.
const REFUSED_V6: [(Ipv6Addr, u32); 4] = [
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23), // protocol assignments (RFC 2928): Teredo, benchmarking, ORCHID
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32), // documentation (RFC 3849)
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16), // 6to4 (RFC 3056)
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20), // documentation (RFC 9637)
];

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(address: &str, expected: bool) {
        let parsed = address.parse().expect("an address");
        assert_eq!(is_global_unicast(parsed), expected, "{address}");
    }

    #[test]
    fn squid_refuses_the_same() {
        let configuration = include_str!("../../deploy/squid/squid.conf");
        let refused: Vec<&str> = configuration
            .lines()
            .filter_map(|line| {
                let inside = line.strip_prefix("acl inside dst ");
                inside.or_else(|| line.strip_prefix("acl inside6 dst "))
            })
            .collect();
        let v4 = REFUSED_V4.map(|(network, prefix)| format!("{network}/{prefix}"));
        let v6 = REFUSED_V6.map(|(network, prefix)| format!("{network}/{prefix}"));
        // All but 2000::/3.
        let outside = [
            "::/96",
            "::1:0:0:0-1fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
            "4000::/2",
            "8000::/1",
        ];
        let outside = outside.map(str::to_owned);
        let expected: Vec<String> = v4.into_iter().chain(v6).chain(outside).collect();
        assert_eq!(refused, expected);
    }

    #[test]
    fn ipv4_out_on_the_internet_is_taken() {
        check("1.1.1.1", true);
        check("8.8.8.8", true);
        check("9.255.255.255", true);
        check("11.0.0.0", true);
        check("100.63.255.255", true);
        check("100.128.0.0", true);
        check("126.255.255.255", true);
        check("128.0.0.0", true);
        check("169.253.255.255", true);
        check("172.15.255.255", true);
        check("172.32.0.0", true);
        check("192.0.1.0", true);
        check("192.167.255.255", true);
        check("192.169.0.0", true);
        check("198.17.255.255", true);
        check("198.20.0.0", true);
        check("223.255.255.255", true);
    }

    #[test]
    fn ipv4_of_our_own_surroundings_is_refused() {
        check("0.0.0.0", false);
        check("0.255.255.255", false);
        check("10.0.0.1", false);
        check("10.255.255.255", false);
        check("100.64.0.1", false);
        check("100.127.255.255", false);
        check("127.0.0.1", false);
        check("127.255.255.254", false);
        check("169.254.169.254", false);
        check("172.16.0.1", false);
        check("172.31.255.255", false);
        check("192.0.0.8", false);
        check("192.0.0.170", false);
        check("192.0.2.1", false);
        check("192.31.196.1", false);
        check("192.52.193.1", false);
        check("192.88.99.1", false);
        check("192.168.1.1", false);
        check("192.175.48.1", false);
        check("198.18.0.1", false);
        check("198.19.255.255", false);
        check("198.51.100.7", false);
        check("203.0.113.9", false);
        check("224.0.0.1", false);
        check("239.255.255.255", false);
        check("240.0.0.1", false);
        check("255.255.255.255", false);
    }

    #[test]
    fn ipv6_out_on_the_internet_is_taken() {
        check("2606:4700:4700::1111", true);
        check("2a00:1450:4001::8a", true);
        check("2001:200::1", true);
        check("2001:db7::1", true);
        check("2001:db9::1", true);
        check("2003::1", true);
        check("3ffe::1", true);
        check("64:ff9b::8.8.8.8", true);
    }

    #[test]
    fn ipv6_of_our_own_surroundings_or_with_ipv4_in_it_is_refused() {
        check("::", false);
        check("::1", false);
        check("::127.0.0.1", false);
        check("::8.8.8.8", false);
        check("::ffff:127.0.0.1", false);
        check("::ffff:10.0.0.1", false);
        check("::ffff:8.8.8.8", false);
        check("::ffff:0:8.8.8.8", false);
        check("64:ff9b::127.0.0.1", false);
        check("64:ff9b::10.0.0.1", false);
        check("64:ff9b::169.254.169.254", false);
        check("64:ff9b:1::8.8.8.8", false);
        check("100::1", false);
        check("1fff::1", false);
        check("2001::1", false);
        check("2001:0:4136:e378:8000:63bf:3fff:fdd2", false);
        check("2001:2::1", false);
        check("2001:10::1", false);
        check("2001:20::1", false);
        check("2001:1ff:ffff::1", false);
        check("2001:db8::1", false);
        check("2002:7f00:1::1", false);
        check("2002:a00:1::1", false);
        check("2002:808:808::1", false);
        check("3fff::1", false);
        check("3fff:fff::1", false);
        check("4000::1", false);
        check("5f00::1", false);
        check("fc00::1", false);
        check("fd00:ec2::254", false);
        check("fe80::1", false);
        check("fec0::1", false);
        check("ff02::1", false);
    }
}
