defmodule Cybernetic.WASM.Interface.NamesTest do
  use ExUnit.Case, async: true

  alias Cybernetic.WASM.Interface.{Function, Names}

  test "names are in snake case, whatever language they come from" do
    for {export, name} <- %{
          "div_mod" => "div_mod",
          "getSize" => "get_size",
          "GetSize" => "get_size",
          "HTTPServer" => "http_server",
          "parseURL" => "parse_url",
          "i32Add" => "i32_add",
          "i32.add" => "i32_add",
          "wasi:http/handler#handle" => "wasi_http_handler_handle",
          "Point#x" => "point_x",
          "std::fmt" => "std_fmt",
          "_start" => "_start",
          "__wbindgen_malloc" => "__wbindgen_malloc",
          "A" => "a"
        },
        do: assert({export, Names.snake_case(export)} == {export, name})
  end

  test "no name becomes an atom before all are known to be good" do
    name = "never_an_atom_#{System.unique_integer([:positive])}"

    [good, bad] =
      for export <- [name, "1"], do: %Function{export: export, params: [], results: []}

    choice = %{only: nil, except: [], as: %{}, by_abi: %{}}
    assert {:error, [_]} = Names.assign([good, bad], choice)
    assert_raise ArgumentError, fn -> String.to_existing_atom(name) end
    assert {:ok, [%Function{export: ^name}]} = Names.assign([good], choice)
  end
end
