defmodule Cybernetic.WASM.Security.ReadOnceTest do
  # What was hashed is what is compiled: a source is asked once, whatever it would say the next time.
  use ExUnit.Case, async: true

  alias Cybernetic.WASM.{Digest, Executor, Loader, Runtime}
  alias Cybernetic.WASM.Loader.{Keys, Signature, Source}

  @good ~S|(module (func (export "answer") (result i32) i32.const 42))|
  @evil ~S|(module (func (export "answer") (result i32) i32.const 13))|

  # The good one at first, and the evil one from then on.
  defmodule Turncoat do
    @behaviour Source

    @impl true
    def fetch({counter, good, evil}, _opts) do
      case Agent.get_and_update(counter, &{&1, &1 + 1}) do
        0 -> {:ok, good, %{}}
        _later -> {:ok, evil, %{}}
      end
    end

    @impl true
    def describe(_argument), do: "turncoat"
  end

  defp turncoat(counter), do: {Turncoat, {counter, @good, @evil}}

  setup do
    {public, private} = Keys.generate()
    digest = @good |> Digest.of(:blake3) |> Digest.to_text()
    signature = digest |> Signature.new(nil) |> Signature.sign(private) |> Signature.encode()

    opts = [
      digest: @good |> Digest.of(:sha256) |> Digest.to_text(),
      trust: [keys: [Keys.to_text(public)]],
      signature: {:bytes, signature},
      expect: [exports: [answer: "() -> i32"]]
    ]

    %{opts: opts}
  end

  test "a source that gives other bytes the second time is not asked a second time", %{opts: opts} do
    counter = start_supervised!({Agent, fn -> 0 end})
    assert {:ok, module} = Runtime.load_module(turncoat(counter), opts)
    assert Executor.call(module, "answer") == {:ok, 42}
    assert Agent.get(counter, & &1) == 1
    assert {:error, %{reason: :digest_mismatch}} = Runtime.load_module(turncoat(counter), opts)
  end

  test "what was verified is loaded from memory", %{opts: opts} do
    counter = start_supervised!({Agent, fn -> 0 end})
    assert {:ok, fetched} = Loader.fetch(turncoat(counter), opts)
    assert {:ok, fetched} = Loader.verify(fetched, opts)
    assert {:ok, module} = Loader.validate(fetched, opts)
    assert Executor.call(module, "answer") == {:ok, 42}
    assert Agent.get(counter, & &1) == 1
    # Whoever puts other bytes into it is noticed, as far as digests are worked out at all.
    other = %{fetched | bytes: @evil, digests: %{}}
    assert {:error, %{reason: :digest_mismatch}} = Loader.verify(other, opts)
  end

  @tag :tmp_dir
  test "a file that changes all the time is loaded as it was pinned, or not at all", %{
    tmp_dir: dir,
    opts: opts
  } do
    path = Path.join(dir, "answer.wasm")
    File.write!(path, @good)
    writer = start_supervised!({Task, fn -> rewrite(path) end})

    answers =
      for _ <- 1..300 do
        case Runtime.load_module(path, opts) do
          {:ok, module} -> Executor.call!(module, "answer")
          {:error, %{reason: :digest_mismatch}} -> :refused
        end
      end

    assert Process.alive?(writer)
    assert Enum.uniq(answers) -- [42, :refused] == []
  end

  # In place, so that a reader may meet any mixture of the two.
  defp rewrite(path) do
    for bytes <- [@evil, @good], do: File.write!(path, bytes)
    rewrite(path)
  end
end
