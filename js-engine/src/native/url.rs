//! `native.url`: the parser and serializer of URLs and of queries.

use rquickjs::{Ctx, Function, Object, Result};
use url::{Url, form_urlencoded, quirks};

use super::Text;

/// What JavaScript calls the parts of a URL, in the order of `js/src/web/url.js`: href, protocol, username, password,
/// host, hostname, port, pathname, search, hash, origin.
type Parts = Vec<String>;

pub fn object<'js>(ctx: &Ctx<'js>) -> Result<Object<'js>> {
    let object = Object::new(ctx.clone())?;
    object.set("parse", Function::new(ctx.clone(), parse)?)?;
    object.set("set", Function::new(ctx.clone(), set)?)?;
    object.set("parseQuery", Function::new(ctx.clone(), parse_query)?)?;
    object.set("serializeQuery", Function::new(ctx.clone(), serialize_query)?)?;
    object.set("domainToAscii", Function::new(ctx.clone(), |domain: Text| quirks::domain_to_ascii(&domain.0))?)?;
    object.set("domainToUnicode", Function::new(ctx.clone(), |domain: Text| quirks::domain_to_unicode(&domain.0))?)?;
    Ok(object)
}

/// Returns the parts of `input`, or undefined if it is no URL.
fn parse(input: Text, base: Option<Text>) -> Option<Parts> {
    let base = match base {
        Some(base) => Some(Url::parse(&base.0).ok()?),
        None => None,
    };
    let url = Url::options().base_url(base.as_ref()).parse(&input.0).ok()?;
    Some(parts(&url))
}

/// Sets one part of a URL, which is given as its index in `Parts`. Returns the new parts, or undefined if the value is not
/// valid there, in which case the URL standard leaves the URL as it is.
fn set(href: Text, part: u32, value: Text) -> Option<Parts> {
    let mut url = Url::parse(&href.0).ok()?;
    let value = &value.0;
    match part {
        1 => quirks::set_protocol(&mut url, value).ok()?,
        2 => quirks::set_username(&mut url, value).ok()?,
        3 => quirks::set_password(&mut url, value).ok()?,
        4 => quirks::set_host(&mut url, value).ok()?,
        5 => quirks::set_hostname(&mut url, value).ok()?,
        6 => quirks::set_port(&mut url, value).ok()?,
        7 => quirks::set_pathname(&mut url, value),
        8 => quirks::set_search(&mut url, value),
        9 => quirks::set_hash(&mut url, value),
        _ => return None,
    }
    Some(parts(&url))
}

fn parts(url: &Url) -> Parts {
    let origin = quirks::origin(url);
    [
        quirks::href(url),
        quirks::protocol(url),
        quirks::username(url),
        quirks::password(url),
        quirks::host(url),
        quirks::hostname(url),
        quirks::port(url),
        quirks::pathname(url),
        quirks::search(url),
        quirks::hash(url),
        &origin,
    ]
    .map(str::to_owned)
    .into()
}

/// Parses `application/x-www-form-urlencoded` into names and values, each value behind its name.
fn parse_query(query: Text) -> Vec<String> {
    let pairs = form_urlencoded::parse(query.0.as_bytes());
    pairs.flat_map(|(name, value)| [name.into_owned(), value.into_owned()]).collect()
}

/// Serializes names and values, each value behind its name, as `application/x-www-form-urlencoded`.
fn serialize_query(flat: Vec<Text>) -> String {
    let mut serializer = form_urlencoded::Serializer::new(String::new());
    for pair in flat.chunks_exact(2) {
        serializer.append_pair(&pair[0].0, &pair[1].0);
    }
    serializer.finish()
}
