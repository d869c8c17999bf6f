defmodule Cybernetic.WASM.Component.GuestsTest do
  # Components of several languages, made with the tools of each.
  use ExUnit.Case, async: true

  import Cybernetic.WASM.{Plenty, Programs}

  alias Cybernetic.WASM.{CallError, Executor, HostError, Instance, LimitError, Runtime, Sandbox}

  describe "Markdown in Rust, for strangers" do
    setup do
      %{markdown: Runtime.load_module!("priv/wasm/markdown.wasm")}
    end

    defp document(markdown, text, extensions \\ []),
      do: Executor.call(markdown, {"acme:markdown/rendering", "render"}, [text, extensions])

    test "renders", %{markdown: markdown} do
      assert Executor.call(markdown, "to-html", ["*Hello*, `world`"]) ==
               {:ok, "<p><em>Hello</em>, <code>world</code></p>\n"}

      text = "# A *title*\n\nSome [words](https://example.com).\n\n## Another\n"

      assert document(markdown, text) ==
               {:ok,
                {:ok,
                 %{
                   "html" =>
                     "<h1>A <em>title</em></h1>\n<p>Some <a href=\"https://example.com\">words</a>.</p>\n<h2>Another</h2>\n",
                   "headings" => [
                     %{"level" => 1, "text" => "A title"},
                     %{"level" => 2, "text" => "Another"}
                   ],
                   "links" => ["https://example.com"],
                   "words" => 6
                 }}}
    end

    test "has extensions", %{markdown: markdown} do
      table = "| a | b |\n|---|---|\n| ~~1~~ | 2 |\n"
      assert {:ok, {:ok, %{"html" => "<p>" <> _}}} = document(markdown, table)

      assert {:ok, {:ok, %{"html" => html}}} =
               document(markdown, table, [:tables, :strikethrough])

      assert html =~ "<table>" and html =~ "<del>1</del>"
    end

    test "lets nothing of a stranger's through that is no text", %{markdown: markdown} do
      for text <- [
            "<script>alert(1)</script>",
            "a <img src=x onerror=alert(1)> b",
            "[x](javascript:alert(1))",
            "[x](JaVaScRiPt:alert(1))",
            "[x](java&#x09;script:alert(1))",
            "![x](data:text/html,<script>)",
            "<javascript:alert(1)>",
            "[x][y]\n\n[y]: vbscript:x"
          ] do
        {:ok, html} = Executor.call(markdown, "to-html", [text])
        refute html =~ ~r/<(script|img src=x)|(href|src)="\s*(java|data|vb)/i, html
      end

      assert document(markdown, "[x](javascript:alert(1))") ==
               {:ok, {:error, {"forbidden-link", "javascript:alert(1)"}}}

      assert document(markdown, " \n") == {:ok, {:error, "empty"}}
    end

    test "is limited, however much a stranger asks for", %{markdown: markdown} do
      nested = String.duplicate("> ", 50_000) <> "x"
      result = Executor.call(markdown, "to-html", [nested], fuel: 50_000_000)
      assert match?({:ok, _}, result) or match?({:error, %LimitError{}}, result)

      assert {:error, %LimitError{limit: :fuel}} =
               Executor.call(markdown, "to-html", [String.duplicate("word ", 10_000)],
                 fuel: 10_000
               )

      assert {:error, %LimitError{limit: :memory}} =
               Executor.call(
                 markdown,
                 "to-html",
                 [String.duplicate("*a* ", 500_000)],
                 forever(max_memory: 4_000_000)
               )
    end
  end

  describe "C" do
    defp stock(notes \\ fn _ctx, _line -> true end) do
      component = Runtime.load_module!("test/fixtures/components/stock.wasm")
      Instance.new!(component, imports: %{"acme:stock/book" => %{"write" => notes}})
    end

    defp clerk(instance, name, args),
      do: Instance.call(instance, {"acme:stock/clerk", name}, args)

    test "takes and gives values" do
      stock = stock()

      tea = %{
        "name" => "té",
        "count" => 2,
        "price" => 1.5,
        "kind" => "food",
        "care" => ["cold", "heavy"]
      }

      saw = %{name: "saw", count: 1, price: 20, kind: :tool, care: []}
      assert clerk(stock, "total", [[tea, saw]]) == {:ok, 23.0}
      assert clerk(stock, "find", [[saw, tea], "té"]) == {:ok, {:some, tea}}
      assert clerk(stock, "find", [[saw], "té"]) == {:ok, :none}
      assert clerk(stock, "apply", [tea, :none]) == {:ok, tea}
      assert clerk(stock, "apply", [tea, {:priced, 2}]) == {:ok, %{tea | "price" => 2.0}}
      assert clerk(stock, "apply", [tea, {"renamed", ""}]) == {:ok, %{tea | "name" => ""}}
      assert clerk(stock, "parse", ["042 apples"]) == {:ok, {:ok, 42}}
      assert clerk(stock, "parse", ["4294967296"]) == {:ok, {:error, "too large"}}
      assert clerk(stock, "parse", [""]) == {:ok, {:error, "no number"}}
      assert clerk(stock, "reverse", [<<1, 2, 3>>]) == {:ok, <<3, 2, 1>>}
    end

    test "calls the host" do
      test = self()
      stock = stock(fn _ctx, line -> send(test, line) && byte_size(line) > 1 end)
      assert clerk(stock, "report", ["an entry"]) == {:ok, true}
      assert_received "an entry"
      assert clerk(stock, "report", [""]) == {:ok, false}
    end

    test "frees what it takes and gives" do
      stock = stock()
      item = %{name: "a saw", count: 1, price: 20, kind: :tool, care: [:fragile]}
      large = String.duplicate("a", 10_000)

      for _ <- 1..500 do
        {:ok, {:some, _}} = clerk(stock, "find", [[item, %{item | name: large}], large])
        {:ok, _} = clerk(stock, "apply", [item, {:renamed, large}])
        {:ok, _} = clerk(stock, "reverse", [large])
      end

      assert Instance.usage(stock).peak_memory < 1_000_000
    end

    test "is refused what it does not take" do
      item = %{name: "a", count: 1, price: 1, kind: :no, care: []}
      assert {:error, %CallError{reason: :type} = error} = clerk(stock(), "total", [[item]])
      assert Exception.message(error) =~ ~s|argument 1 ("items")[0].kind: expected enum|
    end
  end

  describe "a script in JavaScript" do
    @describetag needing("javascript_component")
    # Compiling so much takes minutes on a busy machine.
    @describetag timeout: :infinity

    defp scripts(note) do
      component = Runtime.load_module!(large("javascript_component"), max_module_size: 50_000_000)

      imports = %{"acme:scripts/journal" => %{"note" => note}}
      sandbox = Sandbox.new(forever(max_memory: 200_000_000))
      {component, [imports: imports, sandbox: sandbox]}
    end

    test "judges orders, and counts words" do
      test = self()
      {component, opts} = scripts(fn _ctx, note -> send(test, note) end)
      instance = Instance.new!(component, opts)
      judge = &Instance.call(instance, {"acme:scripts/rules", "judge"}, [&1])
      order = %{item: "té", count: 2, price: 10, tags: []}

      assert judge.(order) == {:ok, "accept"}
      assert_received "2 of té"
      assert judge.(%{order | count: 10}) == {:ok, {"discount", 0.1}}
      assert judge.(%{order | tags: ["x", "forbidden"]}) == {:ok, {"reject", "té is not sold"}}

      assert Instance.call(instance, "words", ["b a\nb  ccc"]) ==
               {:ok, [{"b", 2}, {"a", 1}, {"ccc", 1}]}

      assert {:error, %CallError{reason: :type}} = judge.(%{order | count: -1})
      assert judge.(order) == {:ok, "accept"}

      raising = %{"acme:scripts/journal" => %{"note" => fn _ctx, _note -> raise "no" end}}
      rules = {"acme:scripts/rules", "judge"}
      opts = Keyword.put(opts, :imports, raising)
      assert {:error, %HostError{}} = Executor.call(component, rules, [order], opts)
    end
  end
end
