//! Built-in modules as ES modules: `import { plugin } from "jackfield"`.

use rquickjs::loader::{ImportAttributes, Loader, Resolver};
use rquickjs::module::Declared;
use rquickjs::{Ctx, Module, Object, Result, Value};

use crate::engine;

/// Resolves and loads the modules that js/src/builtins.js knows. There are no others: a script is one file.
pub struct Builtins;

impl Resolver for Builtins {
    fn resolve<'js>(
        &mut self,
        ctx: &Ctx<'js>,
        _base: &str,
        name: &str,
        _attributes: Option<ImportAttributes<'js>>,
    ) -> Result<String> {
        // Throws, with the name and what to use instead, if there is no such module.
        engine::hook(ctx, |hooks| &hooks.builtin)?.call::<_, Value>((name,))?;
        Ok(name.to_owned())
    }
}

impl Loader for Builtins {
    fn load<'js>(
        &mut self,
        ctx: &Ctx<'js>,
        name: &str,
        _attributes: Option<ImportAttributes<'js>>,
    ) -> Result<Module<'js, Declared>> {
        let exports: Value = engine::hook(ctx, |hooks| &hooks.builtin)?.call((name,))?;
        let mut source = String::from("const it = import.meta.exports; export default it.default ?? it;\n");
        if let Some(object) = exports.as_object() {
            for (index, key) in object.keys::<String>().flatten().enumerate().filter(|(_, key)| key != "default") {
                // A name in quotes may be any string.
                let key = format!("{key:?}");
                source.push_str(&format!("const _{index} = it[{key}]; export {{ _{index} as {key} }};\n"));
            }
        }
        let module = Module::declare(ctx.clone(), name, source)?;
        let meta: Object = module.meta()?;
        meta.set("exports", exports)?;
        Ok(module)
    }
}
