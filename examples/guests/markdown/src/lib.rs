//! Markdown of strangers as HTML that can be shown: what is HTML in it is shown as text, and links lead to the web, to mail and to
//! places of one's own, and nowhere else.

wit_bindgen::generate!({ path: "wit", world: "markdown" });

use exports::acme::markdown::rendering::{self, Extensions, Heading, Page, Problem};
use pulldown_cmark::{CowStr, Event, Options, Parser, Tag, TagEnd, html};

struct Markdown;

impl Guest for Markdown {
    fn to_html(text: String) -> String {
        Found::default().render(&text, Options::empty())
    }
}

impl rendering::Guest for Markdown {
    fn render(text: String, extensions: Extensions) -> Result<Page, Problem> {
        if text.trim().is_empty() {
            return Err(Problem::Empty);
        }
        let mut found = Found::default();
        let html = found.render(&text, options(extensions));
        match found.forbidden {
            Some(link) => Err(Problem::ForbiddenLink(link)),
            None => Ok(Page { html, headings: found.headings, links: found.links, words: found.words }),
        }
    }
}

fn options(extensions: Extensions) -> Options {
    let known = [
        (Extensions::TABLES, Options::ENABLE_TABLES),
        (Extensions::FOOTNOTES, Options::ENABLE_FOOTNOTES),
        (Extensions::STRIKETHROUGH, Options::ENABLE_STRIKETHROUGH),
        (Extensions::TASK_LISTS, Options::ENABLE_TASKLISTS),
    ];
    known.into_iter().filter(|(extension, _)| extensions.contains(*extension)).map(|(_, option)| option).collect()
}

/// What was found in a text while it was rendered.
#[derive(Default)]
struct Found {
    headings: Vec<Heading>,
    links: Vec<String>,
    /// The first of them.
    forbidden: Option<String>,
    words: u32,
    in_heading: bool,
}

impl Found {
    fn render(&mut self, text: &str, options: Options) -> String {
        let mut html = String::with_capacity(text.len() * 3 / 2);
        html::push_html(&mut html, Parser::new_ext(text, options).map(|event| self.see(event)));
        html
    }

    fn see<'t>(&mut self, event: Event<'t>) -> Event<'t> {
        match event {
            Event::Html(text) | Event::InlineHtml(text) | Event::Text(text) => Event::Text(self.text(text)),
            Event::Code(text) => Event::Code(self.text(text)),
            Event::Start(Tag::Heading { level, id, classes, attrs }) => {
                self.headings.push(Heading { level: level as u8, text: String::new() });
                self.in_heading = true;
                Event::Start(Tag::Heading { level, id, classes, attrs })
            }
            Event::End(TagEnd::Heading(level)) => {
                self.in_heading = false;
                Event::End(TagEnd::Heading(level))
            }
            Event::Start(Tag::Link { link_type, dest_url, title, id }) => {
                Event::Start(Tag::Link { link_type, dest_url: self.link(dest_url), title, id })
            }
            Event::Start(Tag::Image { link_type, dest_url, title, id }) => {
                Event::Start(Tag::Image { link_type, dest_url: self.link(dest_url), title, id })
            }
            other => other,
        }
    }

    fn text<'t>(&mut self, text: CowStr<'t>) -> CowStr<'t> {
        self.words += text.split_whitespace().count() as u32;
        if let (true, Some(heading)) = (self.in_heading, self.headings.last_mut()) {
            heading.text.push_str(&text);
        }
        text
    }

    fn link<'t>(&mut self, url: CowStr<'t>) -> CowStr<'t> {
        if is_allowed(&url) {
            self.links.push(url.to_string());
            return url;
        }
        self.forbidden.get_or_insert_with(|| url.to_string());
        CowStr::Borrowed("#")
    }
}

/// Browsers leave out blanks and control characters of a scheme, so that only what is known is allowed.
fn is_allowed(url: &str) -> bool {
    match url.split_once(':') {
        Some((scheme, _)) if !scheme.contains(['/', '?', '#']) => {
            ["http", "https", "mailto"].iter().any(|known| scheme.eq_ignore_ascii_case(known))
        }
        _ => true,
    }
}

export!(Markdown);
