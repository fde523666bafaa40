//! Random changes, sent to both systems in the same order.

use serde_json::{Value, json};

use super::form::{Form, Place, field_value};
use super::kind::Kind;
use super::random::Random;
use super::selector::Selector;
use sluice_toolkit::cluster::client::{Client, HttpError};

/// Keeps a deleted object until it is taken off.
const FINALIZER: &str = "equal.example.com/hold";

/// One change.
#[derive(Debug, Clone)]
pub(super) enum Edit {
    /// Fails if the object is there, also while it waits for its finalizer.
    Create(Kind, Place, Value),
    /// Fails if it is not there.
    Merge(Kind, Place, Value),
    /// Creates the object, or makes the one that is there look like it.
    Put(Kind, Place, Form, String),
    /// Fails if it is not there; with a finalizer it stays.
    Delete(Kind, Place),
    /// All that match.
    DeleteMany(Kind, Option<&'static str>, Selector),
}

impl Edit {
    /// Any change; about half of all places are taken after many of them.
    pub(super) fn random(random: &mut Random, number: usize) -> Self {
        let kind = *random.one(&Kind::ALL);
        let (place, form, mark) = (Place::random(random, kind), Form::random(random, kind), number.to_string());
        match random.below(40) {
            0..=14 => {
                let mut object = form.object(kind, &place.name, &mark);
                if random.once_in(5) {
                    object["metadata"]["finalizers"] = json!([FINALIZER]);
                }
                Self::Create(kind, place, object)
            }
            15..=22 => Self::Merge(kind, place, json!({"metadata": {"labels": form.label_patch()}})),
            23..=27 => {
                let field = *random.one(kind.fields());
                let value = if random.once_in(4) { Value::Null } else { field_value(random, field) };
                Self::Merge(kind, place, json!({"spec": {field: value}}))
            }
            28..=30 => {
                let finalizers = if random.once_in(3) { json!([FINALIZER]) } else { Value::Null };
                Self::Merge(kind, place, json!({"metadata": {"finalizers": finalizers}}))
            }
            31 => {
                let selector = Selector::random(random, kind, "v1");
                // Never all: there must be something left to select from.
                if selector.has_labels() {
                    Self::DeleteMany(kind, place.namespace, selector)
                } else {
                    Self::Delete(kind, place)
                }
            }
            _ => Self::Delete(kind, place),
        }
    }

    /// Makes the change; returns the status that the server gave.
    ///
    /// # Errors
    /// When there is no answer.
    pub(super) fn apply(&self, api: &Client) -> Result<u16, HttpError> {
        match self {
            Self::Create(kind, place, object) => status(api.create(&kind.path("v1", place.namespace), object)),
            Self::Merge(kind, place, patch) => status(api.merge(&place.path(*kind), patch)),
            Self::Put(kind, place, form, mark) => {
                let created =
                    status(api.create(&kind.path("v1", place.namespace), &form.object(*kind, &place.name, mark)))?;
                if created != 409 {
                    return Ok(created);
                }
                status(api.merge(&place.path(*kind), &form.patch(*kind, mark)))
            }
            Self::Delete(kind, place) => status(api.delete(&place.path(*kind))),
            Self::DeleteMany(kind, namespace, selector) => {
                let path = format!("{}?limit=0{}", kind.path("v1", *namespace), selector.query());
                status(api.delete(&path))
            }
        }
    }
}

fn status(answer: Result<Value, HttpError>) -> Result<u16, HttpError> {
    match answer {
        Ok(_) => Ok(200),
        Err(error) => error.status().ok_or(error),
    }
}
