defmodule Cybernetic.WASM.Component.LibraryTest do
  # Resources of a component that Rust's tools made, in an interface that it exports, beside those that the host has.
  use ExUnit.Case, async: true

  alias Cybernetic.WASM.{CallError, HostError, Instance, Resource, Runtime, TrapError}

  defp library do
    test = self()

    archive = %{
      "open" => fn
        _ctx, "" -> {:error, "which one?"}
        _ctx, name -> {:ok, {:row, name}}
      end,
      "keep" => fn _ctx, row -> send(test, {:kept, row}) end,
      "[method]row.get" => fn
        _ctx, {:row, "empty"}, _key -> nil
        _ctx, {:row, name}, key -> {:some, name <> "'s " <> key}
      end,
      "[method]row.put" => fn _ctx, _row, _key, _value -> :ok end,
      "row" => fn row -> send(test, {:ended, row}) end
    }

    component = Runtime.load_module!("test/fixtures/components/library.wasm")
    Instance.new!(component, imports: %{"acme:library/archive" => archive})
  end

  defp shelf(library, name, args \\ []),
    do: Instance.call(library, {"acme:library/shelf", name}, args)

  defp book(library, title) do
    {:ok, %Resource{} = book} = shelf(library, "[constructor]book", [title])
    book
  end

  defp alive(library), do: shelf(library, "[static]book.alive")

  test "books are made, lent, changed and dropped" do
    library = library()
    book = book(library, "Emma, 1815")
    assert shelf(library, "[method]book.title", [book]) == {:ok, "Emma, 1815"}

    assert shelf(library, "[method]book.label", [book]) ==
             {:ok, %{"text" => "Emma", "year" => {:some, 1815}}}

    assert shelf(library, "[method]book.rename", [book, "Emma"]) == {:ok, nil}

    assert shelf(library, "[method]book.label", [book]) ==
             {:ok, %{"text" => "Emma", "year" => :none}}

    other = book(library, "Ulysses")
    assert shelf(library, "titles", [[book, other, book]]) == {:ok, "Emma, Ulysses, Emma"}
    assert alive(library) == {:ok, 2}
    assert Resource.drop(book) == :ok
    assert alive(library) == {:ok, 1}
    assert {:error, %CallError{reason: :type}} = shelf(library, "[method]book.title", [book])
    assert shelf(library, "titles", [[other]]) == {:ok, "Ulysses"}
  end

  test "books are given away, also in lists and options" do
    library = library()
    {one, other} = {book(library, "one"), book(library, "other")}
    assert {:ok, bound} = shelf(library, "bind", [one, other])
    assert shelf(library, "[method]book.title", [bound]) == {:ok, "one and other"}
    assert {:error, %CallError{}} = shelf(library, "bind", [bound, one])
    assert alive(library) == {:ok, 1}

    {:ok, copies} = shelf(library, "print", ["Emma", 3])
    assert shelf(library, "titles", [copies]) == {:ok, "Emma 1, Emma 2, Emma 3"}
    books = [book(library, "") | copies]
    assert {:ok, {:some, {1, first}}} = shelf(library, "pick", [books])
    assert shelf(library, "[method]book.title", [first]) == {:ok, "Emma 1"}
    assert shelf(library, "pick", [[]]) == {:ok, :none}

    assert shelf(library, "hold", [[first, bound]]) == {:ok, nil}
    assert alive(library) == {:ok, 2}
    assert shelf(library, "release") == {:ok, 2}
    assert alive(library) == {:ok, 0}
  end

  test "rows of the host's go through it, are lent, and end once" do
    library = library()
    assert shelf(library, "borrow-row", [""]) == {:ok, {:error, "which one?"}}
    assert shelf(library, "borrow-row", ["mine"]) == {:ok, {:ok, {:row, "mine"}}}
    assert {:ok, {:ok, book}} = shelf(library, "[static]book.of-row", [{:row, "mine"}])
    assert shelf(library, "[method]book.title", [book]) == {:ok, "mine's title"}

    assert shelf(library, "[static]book.of-row", [{:row, "empty"}]) ==
             {:ok, {:error, "it has no title"}}

    assert shelf(library, "give-away", [{:row, "gift"}]) == {:ok, nil}
    assert_receive {:kept, {:row, "gift"}}
    assert {:error, %TrapError{}} = shelf(library, "fail-with", [{:row, "lost"}])
    assert_receive {:ended, {:row, "lost"}}
    refute_received {:ended, _}
  end

  test "a host function that raises while it has a row ends it once" do
    library = library()
    raising = %{"acme:library/archive" => %{"keep" => fn _ctx, _row -> raise "no" end}}

    assert {:error, %HostError{}} =
             Instance.call(library, {"acme:library/shelf", "give-away"}, [{:row, 1}],
               imports: raising
             )

    refute_received {:ended, _}
  end
end
