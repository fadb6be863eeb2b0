//! The nesting of JSON, which `JSON.parse` checks before it recurses.

use rquickjs::{Ctx, Function, Object, Result};

use super::Text;

pub fn object<'js>(ctx: &Ctx<'js>) -> Result<Object<'js>> {
    let json = Object::new(ctx.clone())?;
    json.set("depth", Function::new(ctx.clone(), |text: Text| depth(text.0.as_bytes()))?)?;
    Ok(json)
}

/// Returns how deep arrays and objects are nested, of a text that may be any.
fn depth(text: &[u8]) -> u32 {
    let (mut depth, mut deepest) = (0_u32, 0);
    let mut bytes = text.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'[' | b'{' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            b'"' => skip_string(&mut bytes),
            _ => {}
        }
    }
    deepest
}

fn skip_string(bytes: &mut std::slice::Iter<'_, u8>) {
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => return,
            b'\\' => {
                bytes.next();
            }
            _ => {}
        }
    }
}
