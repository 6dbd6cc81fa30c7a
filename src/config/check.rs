//! A tree against the schema: finds everything that is wrong, with line and key.
//!
//! Also expands `${VAR}` in place and splits one-line commands into words, since
//! what is checked must be what is used. Words are split before they are
//! expanded, so that a value with blanks or quotes stays one word. Understands as
//! much of JSON Schema as `raw` produces.

use serde_json::Value as Json;

use super::{
    Environment,
    errors::Findings,
    expand::Expander,
    schema::deref,
    tree::{KeyPath, Node, Value},
};

mod forms;
mod hints;

use forms::{bounds, choices, describe};

struct Checker<'a> {
    root: &'a Json,
    expander: Expander<'a>,
    findings: &'a mut Findings,
    path: KeyPath,
}

/// Checks `tree` against `schema` and expands its texts.
pub(super) fn check(schema: &Json, tree: &mut Node, env: &Environment, findings: &mut Findings) {
    let mut checker = Checker {
        root: schema,
        expander: Expander::new(env),
        findings,
        path: KeyPath::default(),
    };
    checker.check(schema, tree);
}

// === impl Checker ===

impl Checker<'_> {
    fn check(&mut self, schema: &Json, node: &mut Node) {
        let root = self.root;
        let schema = deref(root, schema);
        if schema["x-type"] == "command" {
            self.check_command(schema, node);
            return;
        }
        // Before the kinds, since a number may be written as a text.
        if let Some(branches) = schema["anyOf"].as_array() {
            let branch = branches.iter().find(|branch| accepts(root, branch, node));
            match branch {
                Some(branch) if schema["x-type"].is_null() => self.check(branch, node),
                Some(branch) => self.check_typed(schema, branch, node),
                None => self.refuse_kind(schema, node),
            }
            return;
        }
        self.check_typed(schema, schema, node);
    }

    /// `branch` tells the kind of value, `schema` its grammar.
    fn check_typed(&mut self, schema: &Json, branch: &Json, node: &mut Node) {
        if !accepts(self.root, branch, node) {
            self.refuse_kind(schema, node);
            return;
        }
        match &mut node.value {
            Value::Text(_) => self.check_text(schema, node),
            Value::Integer(value) => {
                let (min, max) = bounds(branch);
                if !(min..=max).contains(value) {
                    self.refuse_kind(schema, node);
                }
            }
            Value::Float(value) => {
                let min = branch["minimum"].as_f64().unwrap_or(f64::MIN);
                let max = branch["maximum"].as_f64().unwrap_or(f64::MAX);
                if !(min..=max).contains(value) {
                    self.refuse_kind(schema, node);
                }
            }
            Value::List(_) => self.check_list(branch, node),
            Value::Table(_) => self.check_table(branch, node),
            Value::Bool(_) | Value::Null | Value::Other(_) => {}
        }
    }

    fn check_text(&mut self, schema: &Json, node: &mut Node) {
        let Value::Text(text) = &mut node.value else {
            return;
        };
        match self.expander.expand(text) {
            Ok(expanded) => *text = expanded,
            Err(error) => return self.add(node.line, error.to_string()),
        }
        if text.contains('\0') {
            return self.add(node.line, "must not contain a NUL character");
        }
        if let Some(choices) = choices(schema) {
            if !choices.contains(&text.as_str()) {
                let hint = hints::did_you_mean(text, &choices);
                let expected = describe(self.root, schema);
                let message = format!("must be {expected}; found {:?}{hint}", text.as_str());
                self.add(node.line, message);
            }
            return;
        }
        if let Some(Err(message)) = schema["x-type"]
            .as_str()
            .map(|kind| forms::check(kind, text))
        {
            return self.add(node.line, message);
        }
        if schema["minLength"].as_u64().is_some_and(|min| min > 0) && text.is_empty() {
            self.add(node.line, "must not be empty");
        }
    }

    /// Afterwards the node is a list of words.
    fn check_command(&mut self, schema: &Json, node: &mut Node) {
        match &node.value {
            Value::Text(text) => {
                let Some(words) = shlex::split(text) else {
                    let message = "must be words as in a shell, but a quote is not closed or a \
                                   backslash ends it";
                    return self.add(node.line, message);
                };
                if words.is_empty() {
                    return self.add(node.line, "must not be empty");
                }
                let line = node.line;
                let word = |text| Node {
                    line,
                    value: Value::Text(text),
                };
                let mut words: Vec<_> = words.into_iter().map(word).collect();
                // A word may be any text, so there is no schema for it.
                words
                    .iter_mut()
                    .for_each(|word| self.check_text(&Json::Null, word));
                node.value = Value::List(words);
            }
            Value::List(_) => self.check_list(&schema["anyOf"][1], node),
            _ => return self.refuse_kind(schema, node),
        }
        if let Value::List(words) = &node.value
            && words
                .first()
                .is_some_and(|word| word.value == Value::Text(String::new()))
        {
            self.add(
                node.line,
                "must start with a program to run; the first word is empty",
            );
        }
    }

    fn check_list(&mut self, schema: &Json, node: &mut Node) {
        let Value::List(items) = &mut node.value else {
            return;
        };
        if schema["minItems"].as_u64().is_some_and(|min| min > 0) && items.is_empty() {
            return self.add(node.line, "must not be empty");
        }
        for (index, item) in items.iter_mut().enumerate() {
            self.path.push_index(index);
            self.check(&schema["items"], item);
            self.path.pop();
        }
    }

    fn check_table(&mut self, schema: &Json, node: &mut Node) {
        let line = node.line;
        let Value::Table(entries) = &mut node.value else {
            return;
        };
        entries.retain(|(_, child)| child.value != Value::Null);
        for (key, child) in entries {
            self.path.push_key(key);
            self.check_entry(schema, key, child);
            self.path.pop();
        }
        self.check_presence(schema, line, node);
    }

    fn check_entry(&mut self, schema: &Json, key: &str, child: &mut Node) {
        if let Some(kind) = schema["propertyNames"]["x-type"].as_str()
            && let Err(message) = forms::check(kind, key)
        {
            self.add(child.line, message);
        }
        let rest = &schema["additionalProperties"];
        if let Some(property) = schema["properties"].get(key) {
            self.check(property, child);
        } else if rest.is_object() {
            self.check(rest, child);
        } else {
            let known = schema["properties"].as_object();
            let known: Vec<_> = known
                .into_iter()
                .flatten()
                .map(|(key, _)| key.as_str())
                .collect();
            let hint = hints::unknown_key(key, &known);
            self.add(child.line, format!("unknown key{hint}"));
        }
    }

    /// What must be there: `required`, and `oneOf` as "exactly one of these".
    fn check_presence(&mut self, schema: &Json, line: u32, node: &Node) {
        for key in schema["required"].as_array().into_iter().flatten() {
            let Some(key) = key.as_str() else { continue };
            if node.get(key).is_none() {
                self.path.push_key(key);
                self.add(line, "is missing; it must be given");
                self.path.pop();
            }
        }
        let choices = schema["oneOf"].as_array().into_iter().flatten();
        let choices: Vec<_> = choices.filter_map(|c| c["required"][0].as_str()).collect();
        let given: Vec<_> = choices
            .iter()
            .copied()
            .filter(|key| node.get(key).is_some())
            .collect();
        if !choices.is_empty() && given.len() != 1 {
            let found = if given.is_empty() {
                "none".to_owned()
            } else {
                given.join(" and ")
            };
            let all = choices.join(", ");
            self.add(
                line,
                format!("must have exactly one of {all}; found {found}"),
            );
        }
    }

    fn refuse_kind(&mut self, schema: &Json, node: &Node) {
        let expected = describe(self.root, schema);
        let wants_text = schema["type"] == "string" && schema["x-type"].is_null();
        let hint = match node.value {
            Value::Bool(_) | Value::Integer(_) | Value::Float(_) if wants_text => {
                " (put it in quotes)"
            }
            _ => "",
        };
        let message = format!("must be {expected}; found {}{hint}", node.value);
        self.add(node.line, message);
    }

    fn add(&mut self, line: u32, message: impl Into<String>) {
        self.findings.add(line, &self.path, message);
    }
}

/// Whether `node` is of a kind that `schema` takes.
fn accepts(root: &Json, schema: &Json, node: &Node) -> bool {
    let schema = deref(root, schema);
    if let Some(branches) = schema["anyOf"].as_array() {
        return branches.iter().any(|branch| accepts(root, branch, node));
    }
    let kind = if choices(schema).is_some() {
        Some("string")
    } else {
        schema["type"].as_str()
    };
    match &node.value {
        Value::Bool(_) => kind == Some("boolean"),
        Value::Integer(_) => matches!(kind, Some("integer" | "number")),
        Value::Float(_) => kind == Some("number"),
        Value::Text(_) => kind == Some("string"),
        Value::List(_) => kind == Some("array"),
        Value::Table(_) => kind == Some("object"),
        Value::Null | Value::Other(_) => false,
    }
}
