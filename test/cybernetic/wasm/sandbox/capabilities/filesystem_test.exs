defmodule Cybernetic.WASM.Sandbox.Capabilities.FilesystemTest do
  use ExUnit.Case, async: true

  alias Cybernetic.WASM.Sandbox
  alias Cybernetic.WASM.Sandbox.Capabilities.Filesystem

  defp filesystem(option), do: Sandbox.new(filesystem: option).filesystem

  test "there are no files until directories are granted" do
    assert filesystem(false) == %Filesystem{}
    assert filesystem([]) == %Filesystem{}
    refute Filesystem.granted?(filesystem(quota: 5))
  end

  test "a directory is for reading unless it says otherwise" do
    assert filesystem([{"/srv/a", "/a"}, {"/srv/b", "/b", :rw}]).dirs ==
             [{"/srv/a", "/a", :ro}, {"/srv/b", "/b", :rw}]

    assert filesystem([{"/srv/a", "/a"}]) == filesystem(dirs: [{"/srv/a", "/a", :ro}])
  end

  test "paths have one spelling" do
    assert filesystem([{"data/../data/.", "//a/./b/"}]).dirs == [
             {Path.expand("data"), "/a/b", :ro}
           ]

    assert filesystem([{"/srv", "/"}]).dirs == [{"/srv", "/", :ro}]
    assert filesystem(scratch: "/tmp/").scratch == "/tmp"
    assert filesystem(scratch: false).scratch == nil
  end

  test "paths that could mean something else are refused" do
    for guest <- ["data", "./data", "", "/a/../b", "/..", "/a\0b", <<"/a", 255>>, :data, nil],
        option <- [[{"/srv", guest}], [scratch: guest]] do
      assert_raise ArgumentError, ~r/option :filesystem takes/, fn -> filesystem(option) end
    end

    for host <- ["", "/srv\0/etc", <<"/", 255>>, ~c"/srv", nil] do
      assert_raise ArgumentError, ~r/a path on the host/, fn ->
        filesystem(dirs: [{host, "/a"}])
      end
    end
  end

  test "two directories at one path are refused" do
    for option <- [
          [{"/srv/a", "/a"}, {"/srv/b", "/a/"}],
          [dirs: [{"/srv", "/tmp"}], scratch: "/tmp"]
        ] do
      assert_raise ArgumentError, ~r/two directories at/, fn -> filesystem(option) end
    end
  end

  test "other keys, modes and numbers are refused" do
    for option <- [
          true,
          nil,
          "/srv",
          ["/srv"],
          [{"/srv", "/a", :wo}],
          [{"/srv", "/a", true}],
          [dirs: "/srv"],
          [quota: -1],
          [quota: :infinity],
          [max_open: 1.5],
          [size: 5]
        ] do
      assert_raise ArgumentError, ~r/option :filesystem/, fn -> filesystem(option) end
    end
  end

  test "narrowing keeps what both grant, to read if either says so, within the smaller bounds" do
    one =
      filesystem(
        dirs: [{"/srv/a", "/a", :rw}, {"/srv/b", "/b", :rw}, {"/srv/c", "/c"}],
        scratch: "/tmp",
        quota: 5
      )

    other =
      filesystem(
        dirs: [{"/srv/a", "/a", :rw}, {"/srv/b", "/b", :ro}, {"/srv/d", "/d"}],
        scratch: "/tmp",
        max_open: 3
      )

    narrowed = %Filesystem{
      dirs: [{"/srv/a", "/a", :rw}, {"/srv/b", "/b", :ro}],
      scratch: "/tmp",
      quota: 5,
      max_open: 3
    }

    assert Filesystem.narrow(one, other) == narrowed
    assert Filesystem.narrow(other, one) == narrowed
  end

  test "narrowing drops a directory that is another one, or elsewhere" do
    one = filesystem(dirs: [{"/srv", "/data"}], scratch: "/tmp")

    for option <- [[{"/srv/sub", "/data"}], [{"/srv", "/data/sub"}], [scratch: "/scratch"]],
        do: refute(Filesystem.granted?(Filesystem.narrow(one, filesystem(option))))
  end
end
