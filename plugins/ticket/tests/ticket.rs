use hmac::{Hmac, KeyInit as _, Mac as _};
use jackfield_sdk::testing::Host;
use jackfield_sdk::{Decision, Result};
use sha2::Sha256;
use ticket::Ticket;

const KEY: &str = "0123456789abcdef0123456789abcdef";
/// When the clock of the double stands still, in seconds.
const NOW: u64 = 1_700_000_000;

fn sign(signed: &str, key: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).unwrap();
    mac.update(signed.as_bytes());
    let digits: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{signed}.{digits}")
}

fn decision(key: &str, query: &str) -> Result<Decision> {
    let host = Host::new();
    host.set_config("key", key);
    host.upgrade(query).authorize::<Ticket>()
}

#[test]
fn a_ticket_lets_its_name_in_until_it_expires() -> Result<()> {
    for (name, expires, decided) in [
        ("alice", NOW + 1, Decision::allow("alice").with("expires", "1700000001")),
        ("a.b", NOW + 60, Decision::allow("a.b").with("expires", "1700000060")),
        ("alice", NOW, Decision::Deny),
        ("alice", 0, Decision::Deny),
        ("alice", u64::MAX, Decision::allow("alice").with("expires", u64::MAX.to_string())),
    ] {
        let ticket = sign(&format!("{name}.{expires}"), KEY);
        assert_eq!(decision(KEY, &format!("?ticket={ticket}"))?, decided, "{ticket}");
    }
    Ok(())
}

#[test]
fn whoever_has_no_good_ticket_is_not_known() -> Result<()> {
    let good = sign(&format!("alice.{}", NOW + 60), KEY);
    for query in [
        String::new(),
        "?ticket=".to_owned(),
        format!("?ticket={}", good.replace("alice", "mallory")),
        format!("?ticket={}0", good),
        format!("?ticket={}", &good[..good.len() - 2]),
        format!("?ticket={}", sign(&format!("alice.{}", NOW + 60), "another key of 32 bytes, a secret")),
        format!("?ticket={}", sign("alice.never", KEY)),
        format!("?ticket={}", sign(&format!(".{}", NOW + 60), KEY)),
        format!("?ticket={}", "\u{20ac}".repeat(3)),
    ] {
        assert_eq!(decision(KEY, &query)?, Decision::Unauthorized, "{query}");
    }
    Ok(())
}

#[test]
fn without_a_key_that_cannot_be_guessed_it_fails() {
    for key in ["", &KEY[1..]] {
        let error = decision(key, "?ticket=x").unwrap_err();
        assert_eq!(error.to_string(), "config.key is not there or has less than 32 bytes");
    }
}
