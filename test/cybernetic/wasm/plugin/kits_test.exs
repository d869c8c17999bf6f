defmodule Cybernetic.WASM.Plugin.KitsTest do
  # Plugins that are made with the kits of guests/kits/.
  use ExUnit.Case, async: true

  alias Cybernetic.WASM.{Plugin, PluginError}

  for kit <- ["rust", "assembly_script"] do
    test "the kit for #{kit} makes plugins of :bytes" do
      plugin = Plugin.load!("test/fixtures/kits/#{unquote(kit)}.wasm")
      assert Plugin.contract(plugin) == {:bytes, "it exports cw_alloc and a memory"}
      assert Plugin.call(plugin, "shout", "hello") == {:ok, "HELLO"}

      for bytes <- ["", <<0, 255>>, :rand.bytes(100_000)],
          do: assert(Plugin.call(plugin, "echo", bytes) == {:ok, bytes})

      assert Plugin.call(plugin, "echo", %{"a" => [1]}, codec: :json) == {:ok, %{"a" => [1]}}
      assert Plugin.call(plugin, "parse", -42, codec: :number) == {:ok, -42}

      assert {:error, %PluginError{reason: :refused, detail: ~s|no number: "x"|}} =
               Plugin.call(plugin, "parse", "x")
    end
  end
end
