package server

import (
	"bytes"
	"html"

	"github.com/tokenreeve/tokenreeve/internal/sanitize"
)

// maxText caps one text on a page, in letters.
const maxText = 2000

// tags is HTML of ours. A constant is one without more ado, and a text that came from elsewhere never is.
type tags string

// markup is a page that is being written. html/template would do the same; but the linker must keep every
// exported method of the program where a template is executed, which costs each server, on stdio too, 9 MB
// of code and 3 MiB of memory.
type markup struct{ bytes.Buffer }

func (m *markup) tags(t tags) { _, _ = m.WriteString(string(t)) }

// text writes what may come from outside. It was cleaned when it was kept; whoever wrote it elsewhere is
// cleaned here.
func (m *markup) text(s string) {
	clean, _ := sanitize.Text(s, maxText)
	m.value(clean)
}

// value writes what is ours, as a text or within the quotes of an attribute.
func (m *markup) value(s string) { _, _ = m.WriteString(html.EscapeString(s)) }

// around writes a text between tags.
func (m *markup) around(before tags, s string, after tags) {
	m.tags(before)
	m.text(s)
	m.tags(after)
}

// html is the one page. It has no script, and loads nothing.
func (p *page) html() []byte {
	var m markup
	m.tags(`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>`)
	m.value(p.Title)
	m.tags(" – tokenreeve</title>\n<style>" + style + "</style>\n</head>\n<body>\n<main>\n<h1>")
	m.value(p.Title)
	m.tags("</h1>")
	if p.Notice != "" {
		m.around("\n<p class=\"notice\" role=\"alert\" id=\"notice\">", p.Notice, "</p>")
	}
	if p.Message != "" {
		m.around("\n<p>", p.Message, "</p>")
	}
	m.facts(p.Facts)
	m.list("\n<h2>What it does</h2>\n<ul>", p.Effects)
	m.list("\n<h2>Mind</h2>\n<ul class=\"mind\">", p.Warnings)
	m.targets(p)
	m.form(p)
	if p.Again {
		m.tags("\n<p><a href=\"?\">Open this page again</a></p>")
	}
	m.around("\n<footer>", p.Footer, "</footer>\n</main>\n</body>\n</html>\n")
	return m.Bytes()
}

func (m *markup) facts(facts []fact) {
	if len(facts) == 0 {
		return
	}
	m.tags("\n<dl>")
	for _, f := range facts {
		m.around("\n<dt>", f.Name, "</dt>")
		m.around("<dd><bdi>", f.Value, "</bdi></dd>")
	}
	m.tags("\n</dl>")
}

func (m *markup) list(before tags, texts []string) {
	if len(texts) == 0 {
		return
	}
	m.tags(before)
	for _, text := range texts {
		m.around("\n<li><bdi>", text, "</bdi></li>")
	}
	m.tags("\n</ul>")
}

func (m *markup) targets(p *page) {
	if len(p.Rows) == 0 {
		return
	}
	m.tags("\n<h2 id=\"targets\">Targets</h2>")
	if len(p.Shared) > 0 {
		m.tags("\n<p>The same for all:")
		for i, s := range p.Shared {
			if i > 0 {
				m.tags(",")
			}
			m.around(" ", s.Name, " <bdi>")
			m.around("", s.Value, "</bdi>")
		}
		m.tags("</p>")
	}
	m.tags(`
<div class="scroll" role="region" aria-labelledby="targets" tabindex="0">
<table>
<caption>The tokens that it is about</caption>
<thead><tr>`)
	for _, column := range p.Columns {
		m.around("<th scope=\"col\">", column, "</th>")
	}
	m.tags("</tr></thead>\n<tbody>")
	for _, row := range p.Rows {
		m.tags("\n<tr>")
		for i, cell := range row {
			if i == 0 {
				m.around("<th scope=\"row\"><bdi>", cell, "</bdi></th>")
			} else {
				m.around("<td><bdi>", cell, "</bdi></td>")
			}
		}
		m.tags("</tr>")
	}
	m.tags("\n</tbody>\n</table>\n</div>")
}

func (m *markup) form(p *page) {
	if p.Form == "" {
		return
	}
	m.tags("\n<form method=\"post\" autocomplete=\"off\">\n<input type=\"hidden\" name=\"form\" value=\"")
	m.value(p.Form)
	m.tags("\">")
	if p.Phrase != "" {
		m.around("\n<label for=\"phrase\">To approve, type <code>", p.Phrase, "</code></label>")
		m.tags("\n<input id=\"phrase\" name=\"phrase\" type=\"text\" required autocomplete=\"off\" autocapitalize=\"off\" spellcheck=\"false\"")
		if p.Notice != "" {
			m.tags(" aria-invalid=\"true\" aria-describedby=\"notice\"")
		}
		m.tags(">")
	}
	m.tags("\n<div class=\"buttons\">")
	if p.Phrase != "" {
		m.tags("\n<button class=\"go\" name=\"decision\" value=\"approve\">Approve</button>")
	}
	m.tags("\n<button class=\"stop\" name=\"decision\" value=\"decline\" formnovalidate>Decline</button>\n</div>\n</form>")
}
