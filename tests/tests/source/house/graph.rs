//! Which file of a crate uses which, by `use` and by paths in the code, and the circles among them.
use std::collections::{BTreeMap, BTreeSet};

use crate::tokens::Token;

/// A module's place in its crate: `["policy", "rules"]`.
type Module = Vec<String>;

/// What one `use` brings into scope.
struct Import {
    scope: Module,
    path: Module,
    /// `None` for a glob.
    name: Option<String>,
    public: bool,
    line: usize,
}

/// A path of more than one word.
struct Mention {
    scope: Module,
    path: Module,
    line: usize,
}

/// A source file, read.
struct File {
    name: String,
    module: Module,
    imports: Vec<Import>,
    mentions: Vec<Mention>,
    /// What is defined in each of its modules.
    defined: BTreeSet<(Module, String)>,
    /// Its own module, and those that are written out in it.
    modules: Vec<Module>,
}

/// From a file to another, and the line that says so.
pub type Edges = BTreeMap<(String, String), String>;

/// Tokens without what is compiled for unit tests alone, and the names of modules in other files that are.
pub fn without_tests(tokens: &[Token]) -> (Vec<Token>, Vec<String>) {
    let (mut kept, mut modules) = (Vec::new(), Vec::new());
    let mut at = 0;
    while at < tokens.len() {
        let end = end_of_attribute(tokens, at);
        let is_test = end.is_some_and(|end| {
            let words: Vec<&str> = tokens[at..end].iter().map(|token| token.text.as_str()).collect();
            words.contains(&"cfg") && words.contains(&"test") && !words.contains(&"not")
        });
        let Some(mut next) = end.filter(|_| is_test) else {
            kept.push(tokens[at].clone());
            at += 1;
            continue;
        };
        while let Some(end) = end_of_attribute(tokens, next) {
            next = end;
        }
        at = end_of_item(tokens, next);
        if let [keyword, name, end] = &tokens[next..at]
            && keyword.is("mod")
            && end.is(";")
        {
            modules.push(name.text.clone());
        }
    }
    (kept, modules)
}

/// Where an attribute that begins here ends.
fn end_of_attribute(tokens: &[Token], at: usize) -> Option<usize> {
    let [sign, open, ..] = tokens.get(at..)? else { return None };
    (sign.is("#") && open.is("[")).then(|| end_of_group(tokens, at + 1))
}

/// Behind the bracket that closes the one that is here.
pub fn end_of_group(tokens: &[Token], open: usize) -> usize {
    let mut depth = 0;
    for (at, token) in tokens.iter().enumerate().skip(open) {
        match token.text.as_str() {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at + 1;
        }
    }
    tokens.len()
}

/// Behind the semicolon or the block that an item ends with.
fn end_of_item(tokens: &[Token], mut at: usize) -> usize {
    while at < tokens.len() {
        match tokens[at].text.as_str() {
            ";" => return at + 1,
            "{" => return end_of_group(tokens, at),
            "(" | "[" => at = end_of_group(tokens, at),
            _ => at += 1,
        }
    }
    at
}

/// The module that a file below `src` is.
fn module_of(name: &str) -> Module {
    let mut module: Module = name.trim_end_matches(".rs").split('/').map(String::from).collect();
    if matches!(module.last().map(String::as_str), Some("mod")) || matches!(name, "lib.rs" | "main.rs") {
        module.pop();
    }
    module
}

impl File {
    fn read(name: &str, tokens: &[Token]) -> Self {
        let module = module_of(name);
        let mut file = Self {
            name: name.into(),
            modules: vec![module.clone()],
            module: module.clone(),
            imports: Vec::new(),
            mentions: Vec::new(),
            defined: BTreeSet::new(),
        };
        file.read_module(&module, tokens);
        file
    }

    fn read_module(&mut self, scope: &Module, tokens: &[Token]) {
        const DEFINES: [&str; 9] = ["fn", "struct", "enum", "union", "const", "static", "type", "trait", "macro_rules"];
        let (mut at, mut depth) = (0, 0);
        while at < tokens.len() {
            let token = &tokens[at];
            let next = tokens.get(at + 1);
            match token.text.as_str() {
                "{" => depth += 1,
                "}" => depth -= 1,
                "mod" if tokens.get(at + 2).is_some_and(|token| token.is("{")) => {
                    let end = end_of_group(tokens, at + 2);
                    let inner: Module = scope.iter().cloned().chain([tokens[at + 1].text.clone()]).collect();
                    self.modules.push(inner.clone());
                    self.read_module(&inner, &tokens[at + 3..end - 1]);
                    at = end;
                    continue;
                }
                // Not `impl Trait + use<'a>`.
                "use" if next.is_some_and(|token| !token.is("<")) => {
                    at = self.read_use(scope, tokens, at);
                    continue;
                }
                _ if next.is_some_and(|token| token.is("::")) && token.is_word() => {
                    let path = words_of_path(&tokens[at..]);
                    at += 2 * path.len() - 1;
                    let line = token.first_line;
                    self.mentions.push(Mention { scope: scope.clone(), path, line });
                    continue;
                }
                word if depth == 0 && DEFINES.contains(&word) => {
                    let name = tokens[at + 1..].iter().find(|token| token.is_word() && !token.is("mut"));
                    self.defined.extend(name.map(|name| (scope.clone(), name.text.clone())));
                }
                _ => {}
            }
            at += 1;
        }
    }

    /// Gives where the `use` ends.
    fn read_use(&mut self, scope: &Module, tokens: &[Token], at: usize) -> usize {
        let public = at > 0 && (tokens[at - 1].is("pub") || tokens[at - 1].is(")"));
        let end = (at..tokens.len()).find(|at| tokens[*at].is(";")).unwrap_or(tokens.len());
        for (path, name) in leaves(&tokens[at + 1..end]) {
            let line = tokens[at].first_line;
            self.imports.push(Import { scope: scope.clone(), path, name, public, line });
        }
        end + 1
    }
}

/// `a::b::c`, up to what is no word.
fn words_of_path(tokens: &[Token]) -> Module {
    let mut path = vec![tokens[0].text.clone()];
    for pair in tokens[1..].chunks_exact(2) {
        if !pair[0].is("::") || !pair[1].is_word() {
            break;
        }
        path.push(pair[1].text.clone());
    }
    path
}

/// The paths that a tree of a `use` has, each with the name that it gets; none for a glob.
fn leaves(tree: &[Token]) -> Vec<(Module, Option<String>)> {
    let mut prefix = Module::new();
    let mut at = 0;
    while at < tree.len() {
        let token = &tree[at];
        match token.text.as_str() {
            "{" => {
                let inner = &tree[at + 1..end_of_group(tree, at) - 1];
                let below = branches(inner).into_iter().flat_map(leaves);
                return below.map(|(path, name)| within(&prefix, path, name)).collect();
            }
            "*" => return vec![(prefix, None)],
            "as" => return vec![(prefix, tree.get(at + 1).map(|name| name.text.clone()))],
            "::" => {}
            _ => prefix.push(token.text.clone()),
        }
        at += 1;
    }
    let name = prefix.last().cloned();
    vec![(prefix, name)]
}

/// `a::{self}` is `a` itself.
fn within(prefix: &Module, path: Module, name: Option<String>) -> (Module, Option<String>) {
    if path != ["self"] {
        return ([prefix.clone(), path].concat(), name);
    }
    let name = name.filter(|name| name != "self").or_else(|| prefix.last().cloned());
    (prefix.clone(), name)
}

/// What commas part, outside of braces.
fn branches(tokens: &[Token]) -> Vec<&[Token]> {
    let (mut depth, mut start, mut found) = (0, 0, Vec::new());
    for (at, token) in tokens.iter().enumerate() {
        match token.text.as_str() {
            "{" => depth += 1,
            "}" => depth -= 1,
            "," if depth == 0 => {
                found.push(&tokens[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    found.push(&tokens[start..]);
    found.retain(|branch| !branch.is_empty());
    found
}

/// The files of a crate.
pub struct Crate {
    files: Vec<File>,
}

/// How often one path may lead to another: imports of imports.
const MOST_HOPS: usize = 8;

impl Crate {
    /// Reads sources, each with its name below `src`.
    pub fn read(sources: &[(String, String)]) -> Self {
        let mut files = Vec::new();
        let mut left_out: BTreeSet<Module> = BTreeSet::new();
        for (name, text) in sources {
            let (tokens, tests) = without_tests(&crate::tokens::tokens(text));
            let module = module_of(name);
            left_out.extend(tests.into_iter().map(|test| [module.clone(), vec![test]].concat()));
            files.push(File::read(name, &tokens));
        }
        files.retain(|file| !left_out.iter().any(|module| file.module.starts_with(module)));
        // A program beside a library is a crate of its own, which names the library by its name.
        if files.iter().any(|file| file.name == "lib.rs") {
            files.retain(|file| file.name != "main.rs");
        }
        Self { files }
    }

    fn is_module(&self, path: &[String]) -> bool {
        self.files.iter().any(|file| file.modules.iter().any(|module| module == path))
    }

    fn file_of(&self, module: &[String]) -> Option<&File> {
        self.files.iter().find(|file| file.modules.iter().any(|known| known == module))
    }

    fn imports_of<'a>(&'a self, scope: &'a [String]) -> impl Iterator<Item = &'a Import> {
        self.files.iter().flat_map(|file| &file.imports).filter(move |import| import.scope == scope)
    }

    /// A path as it is from the crate's root. `None` for what is of another crate, or no module's.
    fn absolute(&self, scope: &Module, path: &[String], hops: usize) -> Option<Module> {
        let (first, rest) = path.split_first()?;
        let mut base = match first.as_str() {
            "crate" => Module::new(),
            "self" => scope.clone(),
            "super" => scope.split_last().map(|(_, above)| above.to_vec())?,
            name => {
                // An import of a function's body counts for the whole module.
                let import = self.imports_of(scope).find(|import| import.name.as_deref() == Some(name));
                match import {
                    Some(import) if hops < MOST_HOPS && import.path != path => {
                        self.absolute(scope, &import.path, hops + 1)?
                    }
                    Some(_) => return None,
                    None => {
                        let child = [scope.clone(), vec![first.clone()]].concat();
                        self.is_module(&child).then_some(child)?
                    }
                }
            }
        };
        let mut rest = rest;
        while let Some((above, below)) = rest.split_first().filter(|(word, _)| *word == "super") {
            (base, rest) = (base.split_last().filter(|_| above == "super")?.1.to_vec(), below);
        }
        base.extend_from_slice(rest);
        Some(base)
    }

    /// The module in which what a path names is defined, and whether the path names a module itself.
    fn follow(&self, path: &[String], hops: usize) -> (Module, bool) {
        let mut here = Module::new();
        for (index, name) in path.iter().enumerate() {
            let below = [here.clone(), vec![name.clone()]].concat();
            if self.is_module(&below) {
                here = below;
                continue;
            }
            let rest = &path[index + 1..];
            let target = self.imported(&here, name, rest).filter(|_| hops < MOST_HOPS);
            return target.map_or((here, false), |target| self.follow(&target, hops + 1));
        }
        (here, true)
    }

    /// Where a module has a name from that it does not define.
    fn imported(&self, module: &Module, name: &String, rest: &[String]) -> Option<Module> {
        let defines = |module: &Module| {
            self.file_of(module).is_some_and(|file| file.defined.contains(&(module.clone(), name.clone())))
        };
        if defines(module) {
            return None;
        }
        let by_name = self.imports_of(module).find(|import| import.name.as_ref() == Some(name));
        let target = match by_name {
            Some(import) => self.absolute(module, &import.path, 0)?,
            None => {
                let globs = self.imports_of(module).filter(|import| import.name.is_none());
                let mut targets = globs.filter_map(|import| self.absolute(module, &import.path, 0));
                let target = targets.find(|target| target != module && defines(target))?;
                [target, vec![name.clone()]].concat()
            }
        };
        Some([target, rest.to_vec()].concat())
    }

    /// Every use of one file by another.
    pub fn edges(&self) -> Edges {
        let mut edges = Edges::new();
        for file in &self.files {
            let mut add = |scope: &Module, path: &Module, line: usize, child_is_none: bool, is_glob: bool| {
                let Some(absolute) = self.absolute(scope, path, 0) else { return };
                let (module, is_module) = self.follow(&absolute, 0);
                let Some(target) = self.file_of(&module) else { return };
                // What only names a module says nothing yet of what is used in it.
                let is_name_alone = is_module && !is_glob;
                let is_passed_on = child_is_none && module.starts_with(&file.module);
                if target.name != file.name && !is_name_alone && !is_passed_on {
                    let text = format!("line {line}: {}", path.join("::"));
                    edges.entry((file.name.clone(), target.name.clone())).or_insert(text);
                }
            };
            for Import { scope, path, name, public, line } in &file.imports {
                add(scope, path, *line, *public, name.is_none());
            }
            for Mention { scope, path, line } in &file.mentions {
                add(scope, path, *line, false, false);
            }
        }
        edges
    }

    /// Groups of files of which each can be reached from each, with the lines by which.
    pub fn circles(&self) -> Vec<String> {
        let edges = self.edges();
        let reach: BTreeMap<&str, BTreeSet<&str>> =
            self.files.iter().map(|file| (file.name.as_str(), reachable(&edges, &file.name))).collect();
        let mut seen = BTreeSet::new();
        let mut found = Vec::new();
        for (name, from_it) in &reach {
            let circle: BTreeSet<&str> = from_it
                .iter()
                .copied()
                .filter(|other| reach.get(other).is_some_and(|back| back.contains(name)))
                .collect();
            if circle.is_empty() || !seen.insert(circle.clone()) {
                continue;
            }
            let of_it = |(from, to): &&(String, String)| circle.contains(from.as_str()) && circle.contains(to.as_str());
            let lines = edges.keys().filter(of_it).map(|edge| format!("  {} -> {} ({})", edge.0, edge.1, edges[edge]));
            let files: Vec<&str> = circle.iter().copied().collect();
            found.push(format!("{}\n{}", files.join(", "), lines.collect::<Vec<String>>().join("\n")));
        }
        found
    }
}

/// The files that one leads to.
fn reachable<'a>(edges: &'a Edges, from: &str) -> BTreeSet<&'a str> {
    let mut found = BTreeSet::new();
    let mut pending = vec![from];
    while let Some(here) = pending.pop() {
        for (_, to) in edges.keys().filter(|(start, _)| start == here) {
            if found.insert(to.as_str()) {
                pending.push(to);
            }
        }
    }
    found
}
