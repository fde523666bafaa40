//! Random selectors, and objects that match them.

use super::form::{Form, KEYS, NUMBERS, Place, STRINGS, VALUES, parse_field};
use super::kind::{Kind, NAMESPACES};
use super::random::Random;

/// An operator of a label requirement (k8s.io/apimachinery/pkg/selection).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Equals,
    DoubleEquals,
    NotEquals,
    In,
    NotIn,
    Exists,
    NotExists,
    Greater,
    Less,
}

/// Those that are most of what people write come more often.
const OPERATORS: [Operator; 14] = [
    Operator::Equals,
    Operator::Equals,
    Operator::Equals,
    Operator::DoubleEquals,
    Operator::NotEquals,
    Operator::NotEquals,
    Operator::In,
    Operator::In,
    Operator::NotIn,
    Operator::Exists,
    Operator::Exists,
    Operator::NotExists,
    Operator::Greater,
    Operator::Less,
];

#[derive(Debug, Clone)]
struct Label {
    key: &'static str,
    operator: Operator,
    values: Vec<&'static str>,
}

#[derive(Debug, Clone)]
struct Field {
    /// `metadata.name`, `metadata.namespace` or `spec.…`.
    path: String,
    equal: bool,
    value: String,
    /// Whether it is written as `==`.
    double: bool,
}

/// A label selector and a field selector; either may be empty.
#[derive(Debug, Clone)]
pub(super) struct Selector {
    labels: Vec<Label>,
    fields: Vec<Field>,
    /// Blanks between the parts of the label selector.
    wide: bool,
}

impl Selector {
    /// Anything that has the form of a selector; the apiserver may refuse it.
    pub(super) fn random(random: &mut Random, kind: Kind, version: &str) -> Self {
        let (labels, fields) = match random.below(10) {
            0 => (0, 0),
            1..=5 => (1 + random.below(3), 0),
            6 | 7 => (0, 1 + random.below(2)),
            _ => (1 + random.below(2), 1 + random.below(2)),
        };
        Self {
            labels: (0..labels).map(|_| Label::random(random)).collect(),
            fields: (0..fields).map(|_| Field::random(random, kind, version)).collect(),
            wide: random.once_in(4),
        }
    }

    /// The parameters of a request; empty or starting with `&`.
    pub(super) fn query(&self) -> String {
        let mut query = String::new();
        if !self.labels.is_empty() {
            query.push_str("&labelSelector=");
            query.push_str(&escaped(&self.label_text()));
        }
        if !self.fields.is_empty() {
            let text: Vec<String> = self.fields.iter().map(Field::text).collect();
            query.push_str("&fieldSelector=");
            query.push_str(&escaped(&text.join(",")));
        }
        query
    }

    /// Whether labels are part of it: the least that is pushed down.
    pub(super) fn has_labels(&self) -> bool {
        !self.labels.is_empty()
    }

    fn label_text(&self) -> String {
        let text: Vec<String> = self.labels.iter().map(|label| label.text(self.wide)).collect();
        text.join(if self.wide { " , " } else { "," })
    }

    /// An object in the namespace (or anywhere) that matches; none if chance does not find one, as for `a,!a`.
    pub(super) fn satisfy(
        &self,
        random: &mut Random,
        kind: Kind,
        namespace: Option<&'static str>,
    ) -> Option<(Place, Form)> {
        (0..40).find_map(|_| {
            let (mut place, mut form) = (Place::random(random, kind), Form::random(random, kind));
            place.namespace = namespace.or(place.namespace);
            if kind == Kind::Hats {
                // Left out it would be the default of the version that is asked for.
                form.fields.entry("fit").or_insert_with(|| "tight".into());
            }
            self.labels.iter().for_each(|label| label.lead(random, &mut form));
            self.fields.iter().for_each(|field| field.lead(&mut place, &mut form));
            let inside = namespace.is_none_or(|namespace| place.namespace == Some(namespace));
            (inside && self.matches(&place, &form)).then_some((place, form))
        })
    }

    fn matches(&self, place: &Place, form: &Form) -> bool {
        self.labels.iter().all(|label| label.matches(form))
            && self.fields.iter().all(|field| field.matches(place, form))
    }
}

impl Label {
    fn random(random: &mut Random) -> Self {
        let operator = *random.one(&OPERATORS);
        let many = match operator {
            Operator::Exists | Operator::NotExists => 0,
            Operator::In | Operator::NotIn => 1 + random.below(4),
            _ => 1,
        };
        // Now and then what is no number, which the apiserver refuses.
        let numeric = matches!(operator, Operator::Greater | Operator::Less) && !random.once_in(12);
        let value =
            |random: &mut Random| if numeric { *random.one(&["5", "7", "0", "1000"]) } else { *random.one(&VALUES) };
        Self { key: *random.one(&KEYS), operator, values: (0..many).map(|_| value(random)).collect() }
    }

    fn text(&self, wide: bool) -> String {
        let (key, gap) = (self.key, if wide { " " } else { "" });
        let first = self.values.first().copied().unwrap_or_default();
        let list = self.values.join(if wide { " , " } else { "," });
        match self.operator {
            Operator::Equals => format!("{key}{gap}={gap}{first}"),
            Operator::DoubleEquals => format!("{key}{gap}=={gap}{first}"),
            Operator::NotEquals => format!("{key}{gap}!={gap}{first}"),
            Operator::In => format!("{key} in {gap}({list})"),
            Operator::NotIn => format!("{key} notin ({list})"),
            Operator::Exists => key.to_owned(),
            Operator::NotExists => format!("!{gap}{key}"),
            Operator::Greater => format!("{key}{gap}>{gap}{first}"),
            Operator::Less => format!("{key}{gap}<{gap}{first}"),
        }
    }

    /// k8s.io/apimachinery/pkg/labels/selector.go, `Requirement.Matches`.
    fn matches(&self, form: &Form) -> bool {
        let value = form.labels.get(self.key);
        let listed = value.is_some_and(|value| self.values.contains(&value.as_str()));
        let compare = |order| {
            let number = |text: &str| text.parse::<i64>().ok();
            let (left, right) =
                (value.and_then(|value| number(value)), self.values.first().and_then(|text| number(text)));
            left.zip(right).is_some_and(|(left, right)| left.cmp(&right) == order)
        };
        match self.operator {
            Operator::Equals | Operator::DoubleEquals | Operator::In => listed,
            Operator::NotEquals | Operator::NotIn => !listed,
            Operator::Exists => value.is_some(),
            Operator::NotExists => value.is_none(),
            Operator::Greater => compare(std::cmp::Ordering::Greater),
            Operator::Less => compare(std::cmp::Ordering::Less),
        }
    }

    /// Changes the form so that it is likely to match.
    fn lead(&self, random: &mut Random, form: &mut Form) {
        match self.operator {
            Operator::Equals | Operator::DoubleEquals | Operator::In => {
                form.labels.insert(self.key, (*random.one(&self.values)).to_owned());
            }
            Operator::Exists => {
                form.labels.entry(self.key).or_default();
            }
            Operator::NotExists => {
                form.labels.remove(self.key);
            }
            Operator::NotEquals | Operator::NotIn | Operator::Greater | Operator::Less => {}
        }
    }
}

impl Field {
    fn random(random: &mut Random, kind: Kind, version: &str) -> Self {
        let path = match random.below(12) {
            0 => "metadata.name".to_owned(),
            1 => "metadata.namespace".to_owned(),
            // In v1 alone; elsewhere the apiserver refuses it.
            2 if version == "v1" => format!("spec.{}", if kind == Kind::Hats { "brim" } else { "size" }),
            3 if random.once_in(3) => "spec.unknown".to_owned(),
            _ => format!("spec.{}", random.one(kind.fields())),
        };
        let value = match path.as_str() {
            "metadata.name" => Place::random(random, kind).name,
            "metadata.namespace" => (*random.one(&NAMESPACES)).to_owned(),
            // Any of them with any field: a number's field may be asked for a word.
            _ => match random.below(4) {
                0 => random.one(&NUMBERS).to_string(),
                1 => (*random.one(&["true", "false", "regular", "wide"])).to_owned(),
                _ => (*random.one(&STRINGS)).to_owned(),
            },
        };
        Self { path, equal: !random.once_in(3), value, double: random.once_in(5) }
    }

    /// k8s.io/apimachinery/pkg/fields/selector.go, `EscapeValue`.
    fn text(&self) -> String {
        let value = self.value.replace('\\', "\\\\").replace(',', "\\,").replace('=', "\\=");
        let operator = match (self.equal, self.double) {
            (true, false) => "=",
            (true, true) => "==",
            (false, _) => "!=",
        };
        format!("{}{operator}{value}", self.path)
    }

    fn matches(&self, place: &Place, form: &Form) -> bool {
        let text = match self.path.as_str() {
            "metadata.name" => place.name.clone(),
            "metadata.namespace" => place.namespace.unwrap_or_default().to_owned(),
            path => form.field_text(path.trim_start_matches("spec.")),
        };
        (text == self.value) == self.equal
    }

    fn lead(&self, place: &mut Place, form: &mut Form) {
        if !self.equal {
            return;
        }
        match self.path.as_str() {
            "metadata.name" => place.name.clone_from(&self.value),
            "metadata.namespace" => {
                let namespace = NAMESPACES.iter().find(|name| **name == self.value).copied();
                place.namespace = place.namespace.and(namespace);
            }
            path => {
                let known = ["color", "size", "clean", "brim", "fit"];
                let field = known.iter().find(|field| path.strip_prefix("spec.") == Some(field));
                if let Some((field, value)) = field.and_then(|field| Some((*field, parse_field(field, &self.value)?))) {
                    form.fields.insert(field, value);
                }
            }
        }
    }
}

/// For a URL's query: everything but letters and digits as %XX.
fn escaped(text: &str) -> String {
    let byte =
        |byte: u8| if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    text.bytes().map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn most_selectors_can_be_satisfied_and_those_that_exclude_themselves_can_not() {
        let mut random = Random::new(1);
        let found = (0..500).filter(|_| {
            let selector = Selector::random(&mut random, Kind::Shirts, "v1");
            selector.satisfy(&mut random, Kind::Shirts, None).is_some()
        });
        let found = found.count();
        assert!((350..500).contains(&found), "{found}");

        let label = |operator| Label { key: "team", operator, values: Vec::new() };
        let labels = vec![label(Operator::Exists), label(Operator::NotExists)];
        let never = Selector { labels, fields: Vec::new(), wide: false };
        assert!(never.satisfy(&mut random, Kind::Shirts, None).is_none());
    }

    #[test]
    fn selectors_as_text() {
        let label = |operator, values: &[&'static str]| Label { key: "k", operator, values: values.to_vec() };
        let labels =
            vec![label(Operator::In, &["a", ""]), label(Operator::NotExists, &[]), label(Operator::Greater, &["5"])];
        let field = Field { path: "spec.color".into(), equal: false, value: "a,=\\".into(), double: false };
        let selector = Selector { labels, fields: vec![field], wide: false };
        assert_eq!(selector.label_text(), "k in (a,),!k,k>5");
        assert_eq!(selector.fields[0].text(), r"spec.color!=a\,\=\\");
        assert!(selector.query().starts_with("&labelSelector=k%20in%20%28a%2C%29%2C%21k%2Ck%3E5&fieldSelector="));
    }
}
