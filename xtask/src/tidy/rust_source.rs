use std::ops::RangeInclusive;

use proc_macro2::{Delimiter, TokenStream, TokenTree};

use super::finding::Finding;

/// A Rust file as the checks see it.
///
/// The compiler's own lexer (through `proc-macro2`) tells code from strings, characters, lifetimes and comments, so no
/// check mistakes one for the other. Documentation comments become attributes and so never look like code.
#[derive(Debug)]
pub(super) struct RustSource {
    /// Path relative to the root of the repository.
    pub(super) path: String,
    /// The lines of the file.
    pub(super) lines: Vec<String>,
    /// Every token in order, delimiters of groups included.
    pub(super) tokens: Vec<Token>,
    /// Every function that has a body.
    pub(super) functions: Vec<Function>,
    /// Whether the whole file is compiled for tests only.
    pub(super) test_file: bool,
    test_ranges: Vec<RangeInclusive<usize>>,
    test_modules: Vec<String>,
}

/// One token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Token {
    /// An identifier, one character of punctuation or of a delimiter, or `"` for any literal.
    pub(super) text: String,
    /// Line, counted from 1.
    pub(super) line: usize,
}

/// A function with a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Function {
    pub(super) name: String,
    /// Line of its name.
    pub(super) line: usize,
    /// Lines of the body, from the line of `{` to the line of `}`.
    pub(super) length: usize,
}

impl RustSource {
    /// Reads the tokens of a file.
    ///
    /// # Errors
    /// A finding when the text is not made of Rust tokens or its brackets do not match.
    pub(super) fn parse(path: &str, text: &str) -> Result<RustSource, Finding> {
        let stream: TokenStream = text.parse().map_err(|error: proc_macro2::LexError| {
            Finding::new(path, error.span().start().line, "is no Rust")
        })?;
        let mut source = RustSource {
            path: path.to_owned(),
            lines: text.lines().map(str::to_owned).collect(),
            tokens: Vec::new(),
            functions: Vec::new(),
            test_file: path.split('/').any(|part| part == "tests" || part == "tests.rs"),
            test_ranges: Vec::new(),
            test_modules: Vec::new(),
        };
        source.enter(stream);
        Ok(source)
    }

    /// Whether the line is compiled for tests only.
    pub(super) fn is_test(&self, line: usize) -> bool {
        self.test_file || self.test_ranges.iter().any(|range| range.contains(&line))
    }

    /// The name of the library crate whose source this file belongs to, such as `moescope-base`.
    pub(super) fn library(&self) -> Option<&str> {
        let (name, inside) = self.path.strip_prefix("crates/")?.split_once('/')?;
        (inside.starts_with("src/") && inside != "src/main.rs").then_some(name)
    }

    /// Paths, without `.rs`, of the modules that this file declares for tests only.
    pub(super) fn test_module_stems(&self) -> Vec<String> {
        let stem = self.path.trim_end_matches(".rs");
        let folder = match stem.rsplit_once('/') {
            Some((folder, "lib" | "main" | "mod")) => folder,
            _ => stem,
        };
        self.test_modules.iter().map(|name| format!("{folder}/{name}")).collect()
    }

    fn enter(&mut self, stream: TokenStream) {
        let trees: Vec<TokenTree> = stream.into_iter().collect();
        for (index, tree) in trees.iter().enumerate() {
            self.note_test_item(&trees[index..]);
            self.note_function(&trees[index..]);
            self.note_tokens(tree);
        }
    }

    fn note_tokens(&mut self, tree: &TokenTree) {
        let line = tree.span().start().line;
        match tree {
            TokenTree::Ident(ident) => self.tokens.push(Token { text: ident.to_string(), line }),
            TokenTree::Punct(punct) => self.tokens.push(Token { text: punct.as_char().to_string(), line }),
            TokenTree::Literal(_) => self.tokens.push(Token { text: "\"".into(), line }),
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    Delimiter::Parenthesis => ("(", ")"),
                    Delimiter::Brace => ("{", "}"),
                    Delimiter::Bracket => ("[", "]"),
                    Delimiter::None => ("", ""),
                };
                self.tokens.push(Token { text: open.into(), line });
                self.enter(group.stream());
                self.tokens.push(Token { text: close.into(), line: group.span_close().end().line });
            }
        }
    }

    /// Notes `fn name … { … }` at the head of the trees.
    fn note_function(&mut self, trees: &[TokenTree]) {
        let [TokenTree::Ident(keyword), TokenTree::Ident(name), rest @ ..] = trees else { return };
        if keyword != "fn" {
            return;
        }
        if let Some(TokenTree::Group(body)) = rest.iter().find(|tree| ends_item(tree)) {
            let length = body.span_close().end().line - body.span_open().start().line + 1;
            self.functions.push(Function { name: name.to_string(), line: name.span().start().line, length });
        }
    }

    /// Notes `#[cfg(test)] …` or `#[test] …` at the head of the trees, up to the end of the item.
    fn note_test_item(&mut self, trees: &[TokenTree]) {
        let [TokenTree::Punct(hash), TokenTree::Group(attribute), rest @ ..] = trees else { return };
        if hash.as_char() != '#' || !is_test_attribute(&attribute.stream()) {
            return;
        }
        let Some(end) = rest.iter().position(ends_item) else { return };
        self.test_ranges.push(hash.span().start().line..=rest[end].span().end().line);
        if let (TokenTree::Punct(_), Some(TokenTree::Ident(name))) =
            (&rest[end], end.checked_sub(1).map(|i| &rest[i]))
            && rest[..end].iter().any(|tree| matches!(tree, TokenTree::Ident(word) if word == "mod"))
        {
            self.test_modules.push(name.to_string());
        }
    }
}

fn ends_item(tree: &TokenTree) -> bool {
    match tree {
        TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
        TokenTree::Punct(punct) => punct.as_char() == ';',
        _ => false,
    }
}

/// `test`, `cfg(test)`, `cfg(all(test, …))`; not `cfg(not(test))`, nor `cfg(any(test, …))`, which other builds see too.
fn is_test_attribute(attribute: &TokenStream) -> bool {
    let text: String = attribute.to_string().split_whitespace().collect();
    text == "test" || text == "cfg(test)" || text.starts_with("cfg(all(test,")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> RustSource {
        RustSource::parse("crates/moescope-x/src/a.rs", text).unwrap()
    }

    #[test]
    fn braces_in_strings_characters_and_comments_do_not_count() {
        let source = parse(
            "fn a<'b>(x: &'b str) -> char {\n // }\n let _ = r#\"}\"}\"#;\n /* } */\n let _ = \"}\";\n '}'\n}\n\nfn c() {}\n",
        );
        let lengths: Vec<(&str, usize)> =
            source.functions.iter().map(|f| (f.name.as_str(), f.length)).collect();
        assert_eq!(lengths, [("a", 7), ("c", 1)]);
    }

    #[test]
    fn functions_without_a_body_and_function_types_are_no_functions() {
        let source =
            parse("trait T { fn a(&self); fn b(&self) { } }\ntype F = fn(u8) -> u8;\nstruct S { f: fn() }");
        assert_eq!(source.functions.iter().map(|f| f.name.as_str()).collect::<Vec<_>>(), ["b"]);
    }

    #[test]
    fn inner_functions_count_for_themselves_and_for_the_outer_one() {
        let source = parse("fn outer() {\n fn inner() {\n }\n}");
        let lengths: Vec<usize> = source.functions.iter().map(|f| f.length).collect();
        assert_eq!(lengths, [4, 2]);
    }

    #[test]
    fn test_items_reach_to_their_end() {
        let source = parse("fn a() {}\n#[cfg(test)]\nmod tests {\n fn b() {}\n}\nfn c() {}\n");
        let lines: Vec<usize> = (1..=6).filter(|&line| source.is_test(line)).collect();
        assert_eq!(lines, [2, 3, 4, 5]);
        assert!(!parse("#[cfg(not(test))]\nfn a() {}").is_test(2));
    }

    #[test]
    fn test_modules_in_files_are_named_by_their_place() {
        let source =
            RustSource::parse("crates/x/src/lib.rs", "#[cfg(test)]\npub(crate) mod testing;").unwrap();
        assert_eq!(source.test_module_stems(), ["crates/x/src/testing"]);
        let source = RustSource::parse("crates/x/src/a.rs", "#[cfg(test)] mod b;").unwrap();
        assert_eq!(source.test_module_stems(), ["crates/x/src/a/b"]);
    }

    #[test]
    fn documentation_never_looks_like_code() {
        let source = parse("/// `a.unwrap()`\nfn a() {}");
        assert!(source.tokens.iter().all(|token| token.text != "unwrap"));
    }

    #[test]
    fn only_library_sources_belong_to_a_library() {
        let library = |path: &str| RustSource::parse(path, "").unwrap().library().map(str::to_owned);
        assert_eq!(library("crates/moescope-base/src/a/b.rs").as_deref(), Some("moescope-base"));
        assert_eq!(library("crates/moescope-base/tests/a.rs"), None);
        assert_eq!(library("crates/moescope/src/main.rs"), None);
        assert_eq!(library("xtask/src/main.rs"), None);
    }
}
