defmodule Cybernetic.WASM.Runtime.Versions do
  @moduledoc false
  # The versions of one name: which is current, which were before it, and how its calls are shared out. It is a value, which
  # `Runtime.Registry` changes and `Runtime.Names` keeps. Each version has a serial number, by which its module is found.

  alias Cybernetic.WASM.Reference

  @enforce_keys [:name]
  # `all` are the versions as texts, the highest first, and `highest` the highest that there ever was: a number is not used
  # twice. `before` are those that were current before, the latest first, and `left` those that were gone back from. `asked` are the requirements that calls come with: to
  # read one and find what fits takes some ten times as long as the rest of a look-up.
  defstruct [:name, :current, :highest, :split, all: [], before: [], left: [], asked: []]

  # So many are kept. Where there are more, one look-up in so many takes the place of the oldest: a requirement that comes often is at
  # hand soon, and whoever comes with ever other ones has few of them written down.
  @most_asked 32
  @seldom 32

  @type serial :: pos_integer

  @type t :: %__MODULE__{
          name: String.t(),
          current: serial | nil,
          highest: String.t() | nil,
          split: split | nil,
          all: [{String.t(), serial}],
          before: [serial],
          left: [serial],
          asked: [{String.t(), Reference.selector()}]
        }

  @typedoc "What the calls of a bare name are shared out by, and to whom: each serial has the points below its bound."
  @type split :: {:split, :random | :process, [{bound :: pos_integer, serial}]}

  @typedoc "Where a bare name leads to."
  @type route :: serial | split

  # The points that a split shares out, which a term is hashed to: `:erlang.phash2/2` gives the same on every node.
  @points 0x8000000

  @doc "Where the bare name leads to."
  @spec route(t) :: route
  def route(%__MODULE__{split: nil, current: current}), do: current
  def route(%__MODULE__{split: split}), do: split

  @doc "The one that a point of a split belongs to. The point of a term is always the same."
  @spec share(split, term) :: serial
  def share({:split, _by, shares}, term) do
    point = :erlang.phash2(term, @points)
    {_bound, serial} = Enum.find(shares, fn {bound, _serial} -> point < bound end)
    serial
  end

  @doc "The serial of exactly this version."
  @spec serial(t, String.t()) :: serial | nil
  def serial(%__MODULE__{all: all}, version) do
    with {_version, serial} <- List.keyfind(all, version, 0), do: serial
  end

  @doc "The version with this serial."
  @spec version(t, serial | nil) :: String.t() | nil
  def version(%__MODULE__{all: all}, serial) do
    with {version, _serial} <- List.keyfind(all, serial, 1), do: version
  end

  @doc "The highest version that fits."
  @spec find(t, Reference.selector()) :: serial | nil
  def find(versions, selector) do
    with version when version != nil <- Reference.pick(texts(versions), selector),
         do: serial(versions, version)
  end

  @doc "Whether a requirement that is not kept is to be, with what it finds."
  @spec may_ask?(t) :: boolean
  def may_ask?(%__MODULE__{asked: asked}) when length(asked) < @most_asked, do: true
  # A number that nobody else gets, and no state as `:rand` has it.
  def may_ask?(_versions), do: :erlang.phash2(:erlang.unique_integer(), @seldom) == 0

  @doc "With the text of a look-up by a requirement, whose answer is to be at hand. Others that had been may not be there any more."
  @spec ask(t, String.t(), Reference.selector()) :: t
  def ask(versions, text, selector) do
    others = List.keydelete(versions.asked, text, 0)
    %{versions | asked: Enum.take([{text, selector} | others], @most_asked)}
  end

  @doc "What is found for these texts: a serial, or `nil`."
  @spec found(t) :: [{String.t(), serial | nil}]
  def found(versions),
    do: for({text, selector} <- versions.asked, do: {text, find(versions, selector)})

  @doc "The versions, the highest first."
  @spec texts(t) :: [String.t()]
  def texts(%__MODULE__{all: all}), do: for({version, _serial} <- all, do: version)

  @doc "The next version, where nobody says which."
  @spec next(t) :: String.t()
  def next(%__MODULE__{highest: highest}), do: highest |> List.wrap() |> Reference.next()

  @doc "Whether this version is lower than the current one."
  @spec older?(t, String.t()) :: boolean
  def older?(%__MODULE__{current: nil}, _version), do: false

  def older?(versions, version),
    do: Version.compare(version, version(versions, versions.current)) == :lt

  @doc "With one more version. The first of a name is its current one."
  @spec add(t, String.t(), serial) :: t
  def add(versions, version, serial) do
    all = Enum.sort_by([{version, serial} | versions.all], &elem(&1, 0), {:desc, Version})
    highest = [version | List.wrap(versions.highest)] |> Reference.sort() |> hd()
    %{versions | all: all, highest: highest, current: versions.current || serial}
  end

  @doc "With another current version, which all calls of the bare name get."
  @spec promote(t, serial) :: t
  def promote(%__MODULE__{current: serial} = versions, serial), do: %{versions | split: nil}

  def promote(versions, serial) do
    before = [versions.current | List.delete(versions.before, serial)]
    left = List.delete(versions.left, serial)
    %{versions | current: serial, before: before, left: left, split: nil}
  end

  @doc "With the version that was current before, or `nil` where there is none."
  @spec rollback(t) :: t | nil
  def rollback(%__MODULE__{before: []}), do: nil

  def rollback(%__MODULE__{before: [serial | before]} = versions) do
    left = [versions.current | List.delete(versions.left, serial)]
    %{versions | current: serial, before: before, left: left, split: nil}
  end

  @doc """
  With the calls of the bare name shared out by these weights. Those of the highest version have the first points: a canary
  keeps the keys that it has when its share grows.
  """
  @spec split(t, [{serial, pos_integer}], :random | :process) :: t
  def split(versions, weights, by) do
    total = weights |> Enum.map(&elem(&1, 1)) |> Enum.sum()

    {shares, _sum} =
      for {_version, serial} <- versions.all, {^serial, weight} <- weights do
        {serial, weight}
      end
      |> Enum.map_reduce(0, fn {serial, weight}, sum ->
        {{div((sum + weight) * @points, total), serial}, sum + weight}
      end)

    %{versions | split: {:split, by, shares}}
  end

  @doc "How many of a hundred calls of the bare name this one gets."
  @spec hundredths(t, serial) :: number
  def hundredths(%__MODULE__{split: nil, current: current}, serial),
    do: if(current == serial, do: 100, else: 0)

  def hundredths(%__MODULE__{split: {:split, _by, shares}}, serial) do
    {_sum, points} =
      Enum.reduce(shares, {0, 0}, fn
        {bound, ^serial}, {below, _points} -> {bound, bound - below}
        {bound, _other}, {_below, points} -> {bound, points}
      end)

    Float.round(points * 100 / @points, 2)
  end

  @doc "Whether calls of the bare name get this one."
  @spec serves?(t, serial) :: boolean
  def serves?(%__MODULE__{current: serial}, serial), do: true

  def serves?(%__MODULE__{split: {:split, _by, shares}}, serial),
    do: List.keymember?(shares, serial, 1)

  def serves?(_versions, _serial), do: false

  @doc "Without this version."
  @spec drop(t, serial) :: t
  def drop(versions, serial) do
    %{
      versions
      | all: List.keydelete(versions.all, serial, 1),
        before: List.delete(versions.before, serial),
        left: List.delete(versions.left, serial)
    }
  end

  @doc """
  Those that have been current and are not any more, but for so many: those that can be gone back to come first, the latest at the
  front, then those that were gone back from.
  """
  @spec idle(t, non_neg_integer, (serial -> boolean)) :: [serial]
  def idle(versions, keep, among) do
    Enum.uniq(versions.before ++ versions.left)
    |> Enum.filter(&(among.(&1) and not serves?(versions, &1)))
    |> Enum.drop(keep)
  end
end
