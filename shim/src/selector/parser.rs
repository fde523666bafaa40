//! The grammar of label selectors (apimachinery: `Parser` and `NewRequirement` in pkg/labels/selector.go).

use super::error::ParseError;
use super::lexer::{Lexer, Token};
use super::requirement::{Operator, Requirement, parse_int};
use super::validity;

type Result<T> = std::result::Result<T, ParseError>;

/// The requirements of a selector, in the order they are written in.
pub(super) fn parse(text: &str) -> Result<Vec<Requirement>> {
    let mut lexer = Lexer::new(text);
    let next = lexer.next();
    let mut parser = Parser { lexer, next };
    let mut requirements = Vec::new();
    if parser.next == Token::End {
        return Ok(requirements);
    }
    loop {
        requirements.push(parser.requirement()?);
        match parser.take() {
            Token::End => return Ok(requirements),
            Token::Comma => {}
            other => return Err(unexpected(other, "',' or the end")),
        }
    }
}

struct Parser<'a> {
    lexer: Lexer<'a>,
    /// The token that was read ahead.
    next: Token<'a>,
}

impl<'a> Parser<'a> {
    fn take(&mut self) -> Token<'a> {
        let following = self.lexer.next();
        std::mem::replace(&mut self.next, following)
    }

    fn requirement(&mut self) -> Result<Requirement> {
        let negated = self.next == Token::Not;
        if negated {
            self.take();
        }
        let key = match self.take() {
            Token::Word(key) => key,
            other => return Err(unexpected(other, "a key")),
        };
        if !validity::is_label_key(key) {
            return Err(ParseError::syntax(format!("'{key}' is not a label key")));
        }
        let operator = match (negated, self.next) {
            (true, _) => Operator::DoesNotExist,
            (false, Token::End | Token::Comma) => Operator::Exists,
            (false, _) => self.comparison()?,
        };
        Ok(Requirement { key: key.to_owned(), operator })
    }

    /// An operator with its values.
    fn comparison(&mut self) -> Result<Operator> {
        match self.take() {
            Token::Equals | Token::DoubleEquals => Ok(Operator::In(vec![self.value()?])),
            Token::NotEquals => Ok(Operator::NotIn(vec![self.value()?])),
            Token::Greater => self.integer().map(Operator::GreaterThan),
            Token::Less => self.integer().map(Operator::LessThan),
            Token::Word("in") => self.set().map(Operator::In),
            Token::Word("notin") => self.set().map(Operator::NotIn),
            other => Err(unexpected(other, "an operator")),
        }
    }

    /// One value; nothing at all is the empty one.
    fn value(&mut self) -> Result<String> {
        match self.next {
            Token::End | Token::Comma => Ok(String::new()),
            _ => match self.take() {
                Token::Word(value) => checked_value(value),
                other => Err(unexpected(other, "a value")),
            },
        }
    }

    fn integer(&mut self) -> Result<i64> {
        let value = self.value()?;
        parse_int(&value).ok_or_else(|| ParseError::syntax(format!("'{value}' is not an integer")))
    }

    /// A list of values in parentheses, sorted. Empty places in it are empty values.
    fn set(&mut self) -> Result<Vec<String>> {
        match self.take() {
            Token::Open => {}
            other => return Err(unexpected(other, "'('")),
        }
        let mut values = Vec::new();
        loop {
            match self.next {
                Token::Word(value) => {
                    self.take();
                    values.push(checked_value(value)?);
                }
                _ => values.push(String::new()),
            }
            match self.take() {
                Token::Comma => {}
                Token::Close => break,
                other => return Err(unexpected(other, "',' or ')'")),
            }
        }
        values.sort();
        values.dedup();
        Ok(values)
    }
}

fn checked_value(value: &str) -> Result<String> {
    if validity::is_label_value(value) {
        Ok(value.to_owned())
    } else {
        Err(ParseError::syntax(format!("'{value}' is not a label value")))
    }
}

fn unexpected(found: Token<'_>, expected: &str) -> ParseError {
    ParseError::syntax(format!("found '{found}', expected {expected}"))
}
