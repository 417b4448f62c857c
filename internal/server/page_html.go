package server

import (
	g "maragu.dev/gomponents"
	h "maragu.dev/gomponents/html"

	"github.com/tokenreeve/tokenreeve/internal/sanitize"
)

// maxText caps one text on a page, in letters.
const maxText = 2000

// node is the one page. It has no script, and loads nothing. Every text is escaped by the library.
//
// html/template would do the same; but where a template is executed, the linker must keep every exported
// method of the program, which costs each server, on stdio too, 3 MiB of memory.
func (p page) node() g.Node {
	return h.Doctype(h.HTML(h.Lang("en"),
		h.Head(
			h.Meta(h.Charset("utf-8")),
			h.Meta(h.Name("viewport"), h.Content("width=device-width, initial-scale=1")),
			h.TitleEl(g.Text(p.Title+" – tokenreeve")),
			h.StyleEl(g.Raw(style)),
		),
		h.Body(h.Main(
			h.H1(g.Text(p.Title)),
			g.If(p.Notice != "", h.P(h.Class("notice"), h.Role("alert"), h.ID("notice"), text(p.Notice))),
			g.If(p.Message != "", h.P(text(p.Message))),
			g.If(len(p.Facts) > 0, h.Dl(g.Map(p.Facts, func(f fact) g.Node {
				return g.Group{h.Dt(g.Text(f.Name)), h.Dd(isolated(f.Value))}
			}))),
			list("What it does", "", p.Effects),
			list("Mind", "mind", p.Warnings),
			p.table(),
			p.form(),
			g.If(p.Again, h.P(h.A(h.Href("?"), g.Text("Open this page again")))),
			h.Footer(text(p.Footer)),
		)),
	))
}

func list(heading, class string, items []string) g.Node {
	if len(items) == 0 {
		return nil
	}
	return g.Group{h.H2(g.Text(heading)), h.Ul(g.If(class != "", h.Class(class)),
		g.Map(items, func(item string) g.Node { return h.Li(isolated(item)) }))}
}

func (p page) table() g.Node {
	if len(p.Rows) == 0 {
		return nil
	}
	var shared g.Node
	for i, s := range p.Shared {
		shared = g.Group{shared, g.If(i > 0, g.Text(",")), g.Text(" "), text(s.Name), g.Text(" "), isolated(s.Value)}
	}
	return g.Group{
		h.H2(h.ID("targets"), g.Text("Targets")),
		g.If(len(p.Shared) > 0, h.P(g.Text("The same for all:"), shared)),
		h.Div(h.Class("scroll"), h.Role("region"), h.Aria("labelledby", "targets"), h.TabIndex("0"), h.Table(
			h.Caption(g.Text("The tokens that it is about")),
			h.THead(h.Tr(g.Map(p.Columns, func(column string) g.Node { return h.Th(h.Scope("col"), text(column)) }))),
			h.TBody(g.Map(p.Rows, tableRow)),
		)),
	}
}

func tableRow(cells []string) g.Node {
	var row g.Group
	for i, cell := range cells {
		if i == 0 {
			row = append(row, h.Th(h.Scope("row"), isolated(cell)))
			continue
		}
		row = append(row, h.Td(isolated(cell)))
	}
	return h.Tr(row)
}

func (p page) form() g.Node {
	if p.Form == "" {
		return nil
	}
	canApprove := p.Phrase != ""
	return h.Form(h.Method("post"), h.AutoComplete("off"),
		h.Input(h.Type("hidden"), h.Name("form"), h.Value(p.Form)),
		g.If(canApprove, g.Group{
			h.Label(h.For("phrase"), g.Text("To approve, type "), h.Code(text(p.Phrase))),
			h.Input(h.ID("phrase"), h.Name("phrase"), h.Type("text"), h.Required(), h.AutoComplete("off"), g.Attr("autocapitalize", "off"), g.Attr("spellcheck", "false"),
				g.If(p.Notice != "", g.Group{h.Aria("invalid", "true"), h.Aria("describedby", "notice")})),
		}),
		h.Div(h.Class("buttons"),
			g.If(canApprove, h.Button(h.Class("go"), h.Name("decision"), h.Value("approve"), g.Text("Approve"))),
			h.Button(h.Class("stop"), h.Name("decision"), h.Value("decline"), g.Attr("formnovalidate"), g.Text("Decline")),
		),
	)
}

// text is what may come from outside. It was cleaned when it was kept; whoever wrote it elsewhere is
// cleaned here.
func text(s string) g.Node {
	clean, _ := sanitize.Text(s, maxText)
	return g.Text(clean)
}

// isolated is a text whose direction of writing says nothing of what stands beside it.
func isolated(s string) g.Node { return g.El("bdi", text(s)) }
