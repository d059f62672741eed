//! A crate's modules and the paths that their code names, read from its source. Code for tests is left out.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Attribute, Item, ItemMod, UseTree, Visibility};

/// A module as it is written.
#[derive(Debug, Default)]
pub(super) struct Module {
    /// Its path from the crate's root, which has an empty one.
    pub(super) path: Vec<String>,
    /// The file it is in, from the root of the checkout.
    pub(super) file: String,
    /// The modules it declares.
    pub(super) children: BTreeSet<String>,
    /// The other items it defines.
    pub(super) items: BTreeSet<String>,
    /// The names that its `use` items bring into it, with the path each stands for.
    pub(super) imported: BTreeMap<String, Vec<String>>,
    /// The paths whose contents its `use` items bring into it.
    pub(super) globs: Vec<Vec<String>>,
    /// Every path that its code names.
    pub(super) mentions: Vec<Mention>,
}

/// A path that code names.
#[derive(Debug, Clone)]
pub(super) struct Mention {
    /// As it is written.
    pub(super) path: Vec<String>,
    pub(super) line: usize,
    /// Whether it stands in a `use` item.
    pub(super) is_import: bool,
    /// Whether that `use` item passes the name on to other modules.
    pub(super) is_reexport: bool,
}

/// The modules of the crate in this directory of the checkout, its root first.
pub(super) fn read_crate(root: &Path, directory: &str) -> Result<Vec<Module>> {
    let mut files = BTreeMap::new();
    read_directory(&root.join(directory).join("src"), "", &mut files)?;
    parse_crate(&format!("{directory}/src"), &files)
}

/// All Rust files below the directory, by their path from it.
fn read_directory(directory: &Path, prefix: &str, files: &mut BTreeMap<String, String>) -> Result<()> {
    let entries =
        std::fs::read_dir(directory).with_context(|| format!("cannot read {}", directory.display()))?;
    for entry in entries {
        let entry = entry?;
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if entry.file_type()?.is_dir() {
            read_directory(&entry.path(), &format!("{name}/"), files)?;
        } else if name.ends_with(".rs") {
            let text =
                std::fs::read_to_string(entry.path()).with_context(|| format!("cannot read {name}"))?;
            files.insert(name, text);
        }
    }
    Ok(())
}

/// The modules of a library whose files are given by their path from the directory of its sources.
pub(super) fn parse_crate(sources: &str, files: &BTreeMap<String, String>) -> Result<Vec<Module>> {
    let mut loader = Loader { sources, files, modules: Vec::new() };
    loader.load_file("lib.rs", Vec::new())?;
    Ok(loader.modules)
}

struct Loader<'a> {
    sources: &'a str,
    files: &'a BTreeMap<String, String>,
    modules: Vec<Module>,
}

impl Loader<'_> {
    fn load_file(&mut self, name: &str, path: Vec<String>) -> Result<()> {
        let file = format!("{}/{name}", self.sources);
        let text = self.files.get(name).with_context(|| format!("{file} is missing"))?;
        let parsed = syn::parse_file(text).with_context(|| format!("cannot parse {file}"))?;
        self.load_module(&file, path, &parsed.items)
    }

    fn load_module(&mut self, file: &str, path: Vec<String>, items: &[Item]) -> Result<()> {
        let module = Module { path: path.clone(), file: file.to_owned(), ..Module::default() };
        let mut collector = Collector { module, declared: Vec::new() };
        for item in items {
            collector.module.items.extend(item_name(item));
            collector.visit_item(item);
        }
        let declared = collector.declared;
        self.modules.push(collector.module);
        for child in declared {
            let name = child.ident.to_string();
            let mut child_path = path.clone();
            child_path.push(name.clone());
            match &child.content {
                Some((_, items)) => self.load_module(file, child_path, items)?,
                None if child.attrs.iter().any(|attribute| attribute.path().is_ident("path")) => {
                    bail!("{file}: the module {name} has a #[path], which this check does not follow")
                }
                None => {
                    let base = child_path.join("/");
                    let candidates = [format!("{base}.rs"), format!("{base}/mod.rs")];
                    let found = candidates.iter().find(|name| self.files.contains_key(*name)).cloned();
                    self.load_file(
                        &found.with_context(|| format!("{file}: no file for {name}"))?,
                        child_path,
                    )?;
                }
            }
        }
        Ok(())
    }
}

/// Goes through one module, and leaves out those inside it.
struct Collector<'ast> {
    module: Module,
    /// The modules inside it.
    declared: Vec<&'ast ItemMod>,
}

impl Collector<'_> {
    /// Notes each path of a `use` item.
    fn import(&mut self, tree: &UseTree, prefix: &[String], is_reexport: bool) {
        match tree {
            UseTree::Path(path) => {
                let prefix = [prefix, &[path.ident.to_string()]].concat();
                self.import(&path.tree, &prefix, is_reexport);
            }
            UseTree::Group(group) => {
                group.items.iter().for_each(|tree| self.import(tree, prefix, is_reexport));
            }
            UseTree::Name(name) if name.ident == "self" => {
                self.import_as(prefix.last().cloned(), prefix.to_vec(), name.ident.span(), is_reexport);
            }
            UseTree::Name(name) => {
                let path = [prefix, &[name.ident.to_string()]].concat();
                self.import_as(path.last().cloned(), path, name.ident.span(), is_reexport);
            }
            UseTree::Rename(rename) => {
                let mut path = prefix.to_vec();
                if rename.ident != "self" {
                    path.push(rename.ident.to_string());
                }
                self.import_as(Some(rename.rename.to_string()), path, rename.ident.span(), is_reexport);
            }
            UseTree::Glob(glob) => {
                self.module.globs.push(prefix.to_vec());
                self.import_as(None, prefix.to_vec(), glob.star_token.spans[0], is_reexport);
            }
        }
    }

    fn import_as(
        &mut self,
        name: Option<String>,
        path: Vec<String>,
        span: proc_macro2::Span,
        is_reexport: bool,
    ) {
        if let Some(name) = name {
            self.module.imported.insert(name, path.clone());
        }
        let line = span.start().line;
        self.module.mentions.push(Mention { path, line, is_import: true, is_reexport });
    }

    fn mention(&mut self, path: Vec<String>, line: usize) {
        if !path.is_empty() {
            self.module.mentions.push(Mention { path, line, is_import: false, is_reexport: false });
        }
    }

    /// Notes what looks like a path in the arguments of a macro, which have no syntax of their own.
    fn tokens(&mut self, tokens: TokenStream) {
        let mut path = Vec::new();
        let mut line = 0;
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Ident(ident) => {
                    if colons != 2 {
                        self.mention(std::mem::take(&mut path), line);
                    }
                    line = ident.span().start().line;
                    path.push(ident.to_string());
                    colons = 0;
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
                other => {
                    self.mention(std::mem::take(&mut path), line);
                    colons = 0;
                    if let TokenTree::Group(group) = other {
                        self.tokens(group.stream());
                    }
                }
            }
        }
        self.mention(path, line);
    }
}

impl<'ast> Visit<'ast> for Collector<'ast> {
    fn visit_item(&mut self, item: &'ast Item) {
        if !is_for_tests(item_attributes(item)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_mod(&mut self, module: &'ast ItemMod) {
        self.module.children.insert(module.ident.to_string());
        self.declared.push(module);
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.import(&item.tree, &[], !matches!(item.vis, Visibility::Inherited));
    }

    fn visit_impl_item(&mut self, item: &'ast syn::ImplItem) {
        let attributes: &[Attribute] = match item {
            syn::ImplItem::Const(item) => &item.attrs,
            syn::ImplItem::Fn(item) => &item.attrs,
            syn::ImplItem::Type(item) => &item.attrs,
            syn::ImplItem::Macro(item) => &item.attrs,
            _ => &[],
        };
        if !is_for_tests(attributes) {
            visit::visit_impl_item(self, item);
        }
    }

    fn visit_field(&mut self, field: &'ast syn::Field) {
        if !is_for_tests(&field.attrs) {
            visit::visit_field(self, field);
        }
    }

    fn visit_field_value(&mut self, field: &'ast syn::FieldValue) {
        if !is_for_tests(&field.attrs) {
            visit::visit_field_value(self, field);
        }
    }

    fn visit_variant(&mut self, variant: &'ast syn::Variant) {
        if !is_for_tests(&variant.attrs) {
            visit::visit_variant(self, variant);
        }
    }

    fn visit_arm(&mut self, arm: &'ast syn::Arm) {
        if !is_for_tests(&arm.attrs) {
            visit::visit_arm(self, arm);
        }
    }

    fn visit_local(&mut self, local: &'ast syn::Local) {
        if !is_for_tests(&local.attrs) {
            visit::visit_local(self, local);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let line = path.segments.first().map_or(0, |segment| segment.ident.span().start().line);
        self.mention(path.segments.iter().map(|segment| segment.ident.to_string()).collect(), line);
        // The arguments of its generics have paths too.
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, invocation: &'ast syn::Macro) {
        visit::visit_macro(self, invocation);
        self.tokens(invocation.tokens.clone());
    }

    // Neither what may see an item nor what is said about it is an import.
    fn visit_visibility(&mut self, _: &'ast Visibility) {}
    fn visit_attribute(&mut self, _: &'ast Attribute) {}
}

/// Whether it is compiled for tests only.
fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let Ok(list) = attribute.meta.require_list() else { return attribute.path().is_ident("test") };
        let condition = list.tokens.to_string();
        list.path.is_ident("cfg") && (condition == "test" || condition.starts_with("all (test"))
    })
}

fn item_attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

/// The name it defines, unless it is a module.
fn item_name(item: &Item) -> Option<String> {
    let ident = match item {
        Item::Const(item) => &item.ident,
        Item::Enum(item) => &item.ident,
        Item::Fn(item) => &item.sig.ident,
        Item::Static(item) => &item.ident,
        Item::Struct(item) => &item.ident,
        Item::Trait(item) => &item.ident,
        Item::Type(item) => &item.ident,
        Item::Macro(item) => item.ident.as_ref()?,
        _ => return None,
    };
    Some(ident.to_string())
}
