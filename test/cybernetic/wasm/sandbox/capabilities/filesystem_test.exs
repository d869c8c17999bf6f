defmodule Cybernetic.WASM.Sandbox.Capabilities.FilesystemTest do
  use ExUnit.Case, async: true

  alias Cybernetic.WASM.Sandbox
  alias Cybernetic.WASM.Sandbox.Capabilities.Filesystem

  doctest Filesystem

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

  test "a relative path of the guest's is told where such paths begin" do
    for path <- [".", "data"] do
      assert_raise ArgumentError, ~r{look for relative paths beneath "/"\), got: "#{path}"}, fn ->
        filesystem([{"/srv", path}])
      end
    end

    assert_raise ArgumentError, ~r{as the guest's, got: :data}, fn ->
      filesystem([{"/srv", :data}])
    end
  end

  test "two directories at one path are refused" do
    for option <- [
          [dirs: [{"/srv", "/dev"}], null: "/dev/null"],
          [scratch: "/dev", null: "/dev/null"],
          [{"/srv/a", "/a"}, {"/srv/b", "/a/"}],
          [dirs: [{"/srv", "/tmp"}], scratch: "/tmp"]
        ] do
      error = assert_raise ArgumentError, fn -> filesystem(option) end
      assert error.message =~ "two directories at"
      alone = error.message =~ ~s(at "/dev": a null device has its directory to itself)
      assert alone == Keyword.has_key?(option, :null)
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
          [null: "/dev/zero"],
          [null: "dev/null"],
          [null: "/"],
          [null: true],
          [times: nil],
          [times: :virtual],
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

  test "a null device is granted at its path, and alone" do
    assert filesystem(null: "/dev/null").null == "/dev/null"
    assert filesystem(null: "//x/./null").null == "/x/null"
    assert filesystem(null: "/null").null == "/null"
    assert filesystem(null: false) == %Filesystem{}
    assert Filesystem.granted?(filesystem(null: "/dev/null"))
    assert Filesystem.narrow(filesystem(null: "/dev/null"), filesystem(null: "/null")).null == nil

    assert Filesystem.narrow(filesystem(null: "/null"), filesystem(null: "/null")).null ==
             "/null"
  end

  test "times are real where nothing is said, and the lesser of two" do
    assert {:ok, %{times: true}} = Filesystem.native(filesystem(scratch: "/tmp"), %{})
    assert {:ok, %{times: true}} = Filesystem.native(filesystem(times: :real), %{})
    assert {:ok, %{times: false}} = Filesystem.native(filesystem(times: :fixed), %{})

    for {one, other, both} <- [
          {[], [times: :real], :real},
          {[], [times: :fixed], :fixed},
          {[times: :real], [times: :fixed], :fixed},
          {[], [], nil}
        ] do
      assert Filesystem.narrow(filesystem(one), filesystem(other)).times == both
      assert Filesystem.narrow(filesystem(other), filesystem(one)).times == both
    end
  end

  describe "a directory to read inside one to write" do
    test "is refused, whatever it is called in the guest" do
      for dirs <- [
            [{"/srv", "/a", :rw}, {"/srv/b", "/a/b", :ro}],
            [{"/srv/b/c", "/x", :ro}, {"/srv", "/a", :rw}],
            [{"/srv/../srv/b", "/x"}, {"/srv/.", "/a", :rw}],
            [{"/srv", "/a", :rw}, {"/srv", "/b", :ro}],
            [{"/", "/a", :rw}, {"/srv", "/b"}]
          ],
          option <- [dirs, [dirs: dirs, scratch: "/tmp"]] do
        assert_raise ArgumentError, ~r/to read, but .* to write: give both the same mode/, fn ->
          filesystem(option)
        end
      end
    end

    @tag :tmp_dir
    test "is seen through links", %{tmp_dir: dir} do
      File.mkdir_p!(Path.join(dir, "all/part"))
      link = Path.join(dir, "link")
      File.ln_s!(Path.join(dir, "all/part"), link)

      assert_raise ArgumentError, ~r/give both the same mode/, fn ->
        filesystem([{Path.join(dir, "all"), "/all", :rw}, {link, "/part"}])
      end

      assert filesystem([{Path.join(dir, "all"), "/all", :rw}, {link, "/part", :rw}])
    end

    test "is not one that is beside it, or to write in one to read, or of the same mode" do
      for dirs <- [
            [{"/srv/a", "/a", :rw}, {"/srv/ab", "/b", :ro}],
            [{"/srv", "/a", :ro}, {"/srv/b", "/b", :rw}],
            [{"/srv", "/a", :rw}, {"/srv/b", "/b", :rw}],
            [{"/srv", "/a", :ro}, {"/srv", "/b", :ro}]
          ],
          do: assert(length(filesystem(dirs).dirs) == 2)
    end
  end

  test "narrowing knows that a directory grants what is in it" do
    for {one, other, both} <- [
          {[{"/srv", "/d", :rw}], [{"/srv/a", "/d/a", :ro}], [{"/srv/a", "/d/a", :ro}]},
          {[{"/srv", "/d", :ro}], [{"/srv/a", "/d/a", :rw}], [{"/srv/a", "/d/a", :ro}]},
          {[{"/srv", "/d", :rw}], [{"/srv/a/b", "/d/a/b", :rw}], [{"/srv/a/b", "/d/a/b", :rw}]},
          {[{"/", "/", :rw}], [{"/srv", "/srv", :ro}], [{"/srv", "/srv", :ro}]},
          # To write in there, and to read around it.
          {[{"/srv", "/d", :ro}, {"/srv/a", "/d/a", :rw}], [{"/srv", "/d", :rw}],
           [{"/srv", "/d", :ro}, {"/srv/a", "/d/a", :rw}]},
          # Elsewhere in the guest, or another one.
          {[{"/srv", "/d", :rw}], [{"/srv/a", "/d/b", :rw}], []},
          {[{"/srv", "/d", :rw}], [{"/srv/a", "/d", :rw}], []},
          {[{"/srv", "/d", :rw}], [{"/srva", "/da", :rw}], []}
        ] do
      {one, other} = {filesystem(one), filesystem(other)}
      assert Filesystem.narrow(one, other).dirs == both
      assert Filesystem.narrow(other, one).dirs == both
    end
  end

  test "narrowing drops a directory that is another one, or elsewhere" do
    one = filesystem(dirs: [{"/srv", "/data"}], scratch: "/tmp")

    for option <- [[{"/srv/sub", "/data"}], [{"/srv", "/data/sub"}], [scratch: "/scratch"]],
        do: refute(Filesystem.granted?(Filesystem.narrow(one, filesystem(option))))
  end
end
