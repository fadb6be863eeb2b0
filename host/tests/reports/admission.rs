//! Who is let in: hosts, origins, unsigned calls, proxies and limits for one address.
