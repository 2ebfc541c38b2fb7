//! What `--grad` names: the loss, or a sum of logits such as `logit(262)-logit(' a')@5`.
//!
//! A gradient needs one number to be taken of. The loss asks what the model as a whole learns from; a
//! difference of two logits asks why one token is preferred to another at one place, and is not moved by what
//! raises all logits alike.
//!
//! An example: `logit(' Paris')-logit(' Rome')@5` has the factor 1 for the first token and -1 for the second,
//! both at position 5, counted from 0; without `@5` both are at the last position.

use moescope_base::LogitTerm;

use crate::failure::Failure;

/// What is to be differentiated.
#[derive(Clone, Debug, PartialEq)]
pub enum GradientOf {
    /// The mean next-token loss.
    Loss,
    /// A sum of logits at one position, of every sequence for itself.
    Logits(Vec<LogitTerm>),
}

/// How the option is written.
const FORM: &str = "loss, or \"logit(TOKEN)-logit(TOKEN)\" with @POSITION behind it if it is not the last; TOKEN is an id or quoted text";

impl GradientOf {
    /// Reads the option. `encode` gives the tokens of a text, and `positions` is the length of the sequences.
    ///
    /// # Errors
    /// If it is neither, a quoted text is not exactly one token, or there is no such position.
    pub fn parse(
        text: &str,
        positions: usize,
        mut encode: impl FnMut(&str) -> Result<Vec<u32>, Failure>,
    ) -> Result<GradientOf, Failure> {
        if text.trim() == "loss" {
            return Ok(GradientOf::Loss);
        }
        let mut rest = Rest { all: text, left: text.trim_start() };
        let mut terms = Vec::new();
        let mut factor = if rest.took("-") { -1.0 } else { 1.0 };
        loop {
            let token = rest.token(&mut encode)?;
            terms.push(LogitTerm { token, position: positions - 1, factor });
            factor = match () {
                () if rest.took("+") => 1.0,
                () if rest.took("-") => -1.0,
                () => break,
            };
        }
        if rest.took("@") {
            let number = rest.left.trim().parse::<usize>().ok().filter(|at| *at < positions);
            let Some(at) = number else {
                let found = rest.left.trim();
                return Err(Failure::input(format!(
                    "--grad: the position is `{found}`, wanted a number from 0 to {}",
                    positions - 1
                )));
            };
            terms.iter_mut().for_each(|term| term.position = at);
            rest.left = "";
        }
        match rest.left {
            "" => Ok(GradientOf::Logits(terms)),
            _ => Err(rest.unreadable()),
        }
    }
}

/// What is still to be read.
struct Rest<'t> {
    all: &'t str,
    left: &'t str,
}

impl Rest<'_> {
    /// Takes a mark if it comes next, and the blanks behind it.
    fn took(&mut self, mark: &str) -> bool {
        let Some(left) = self.left.strip_prefix(mark) else { return false };
        self.left = left.trim_start();
        true
    }

    /// `logit(TOKEN)`.
    fn token(&mut self, encode: &mut impl FnMut(&str) -> Result<Vec<u32>, Failure>) -> Result<u32, Failure> {
        if !self.took("logit") || !self.took("(") {
            return Err(self.unreadable());
        }
        let token = match self.left.chars().next() {
            Some(quote @ ('"' | '\'')) => one_token(&self.quoted(quote)?, encode)?,
            _ => {
                let end = self.left.find(|c: char| !c.is_ascii_digit()).unwrap_or(self.left.len());
                let id = self.left[..end].parse().map_err(|_| self.unreadable())?;
                self.left = self.left[end..].trim_start();
                id
            }
        };
        match self.took(")") {
            true => Ok(token),
            false => Err(self.unreadable()),
        }
    }

    /// A text in quotes, in which a backslash stands before a quote, a backslash, `n` or `t`.
    fn quoted(&mut self, quote: char) -> Result<String, Failure> {
        let mut text = String::new();
        let mut letters = self.left.char_indices().skip(1);
        while let Some((place, letter)) = letters.next() {
            match letter {
                '\\' => match letters.next() {
                    Some((_, 'n')) => text.push('\n'),
                    Some((_, 't')) => text.push('\t'),
                    Some((_, other)) if other == '\\' || other == quote => text.push(other),
                    _ => return Err(self.unreadable()),
                },
                _ if letter == quote => {
                    self.left = self.left[place + letter.len_utf8()..].trim_start();
                    return Ok(text);
                }
                _ => text.push(letter),
            }
        }
        Err(self.unreadable())
    }

    fn unreadable(&self) -> Failure {
        let place = self.all.len() - self.left.len();
        let at = if self.left.is_empty() { "its end".to_owned() } else { format!("`{}`", self.left) };
        Failure::input(format!(
            "--grad is `{}`, not understood from {at} (byte {place}); wanted {FORM}",
            self.all
        ))
    }
}

/// The id of a text that is one token.
///
/// A text of several tokens is refused rather than cut to its first: the gradient would be that of another
/// word.
fn one_token(text: &str, encode: &mut impl FnMut(&str) -> Result<Vec<u32>, Failure>) -> Result<u32, Failure> {
    match encode(text)?[..] {
        [id] => Ok(id),
        [] => Err(Failure::input("--grad: an empty text is no token; name one by its id")),
        ref ids => Err(Failure::input(format!(
            "--grad: `{text}` is {} tokens ({}), wanted one; a word often is one token only with the blank before it",
            ids.len(),
            ids.iter().map(u32::to_string).collect::<Vec<_>>().join(", ")
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<GradientOf, String> {
        // A byte is a token.
        let encode = |text: &str| Ok(text.bytes().map(u32::from).collect());
        GradientOf::parse(text, 10, encode).map_err(|failure| failure.message)
    }

    fn logits(terms: &[(u32, usize, f32)]) -> Result<GradientOf, String> {
        let term = |(token, position, factor): &(u32, usize, f32)| LogitTerm {
            token: *token,
            position: *position,
            factor: *factor,
        };
        Ok(GradientOf::Logits(terms.iter().map(term).collect()))
    }

    #[test]
    fn the_forms_of_the_option() {
        assert_eq!(parse("loss"), Ok(GradientOf::Loss));
        assert_eq!(parse("logit(7)-logit(9)"), logits(&[(7, 9, 1.0), (9, 9, -1.0)]));
        assert_eq!(parse(" logit( 'a' ) + logit(\"b\") @ 3 "), logits(&[(97, 3, 1.0), (98, 3, 1.0)]));
        assert_eq!(parse("-logit('\\'')@0"), logits(&[(39, 0, -1.0)]));
        assert_eq!(parse("logit('\\n')-logit(')')"), logits(&[(10, 9, 1.0), (41, 9, -1.0)]));
    }

    #[test]
    fn what_is_not_understood_is_told_from_where() {
        let refused = |text: &str, reason: &str| {
            let message = parse(text).unwrap_err();
            assert!(message.contains(reason), "{text}: {message}");
        };
        refused("perplexity", "wanted loss");
        refused("logit(cat)", "from `cat)` (byte 6)");
        refused("logit('ab')", "is 2 tokens (97, 98)");
        refused("logit('')", "no token");
        refused("logit('a", "quoted text");
        refused("logit(7)-", "its end");
        refused("logit(7)@10", "0 to 9");
        refused("logit(7)@-1", "0 to 9");
        refused("logit(7) logit(9)", "from `logit(9)`");
        refused("logit(99999999999)", "TOKEN is an id");
    }
}
